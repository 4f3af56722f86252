#include "expert_mixing.h"

#include <math.h>
#include <string.h>

/* Overwrites `values` by their exponentials, the largest being 1; returns the sum. */
static float exponentials(float *values, size_t count) {
    float largest = values[0], sum = 0;
    for (size_t value = 1; value < count; value++) largest = values[value] > largest ? values[value] : largest;
    for (size_t value = 0; value < count; value++) sum += values[value] = expf(values[value] - largest);
    return sum;
}

void mix_few(mixing_form form, const float *outputs, size_t num_values, const size_t *experts, const float *shares,
             size_t count, float *mixed, float *scratch) {
    memset(mixed, 0, num_values * sizeof *mixed);
    for (size_t place = 0; place < count; place++) {
        const float *answer = outputs + experts[place] * num_values;
        float factor = shares[place];
        if (form == MIX_SOFTMAX) {
            memcpy(scratch, answer, num_values * sizeof *scratch);
            factor /= exponentials(scratch, num_values);
            answer = scratch;
        }
        for (size_t value = 0; value < num_values; value++) mixed[value] += factor * answer[value];
    }
}
