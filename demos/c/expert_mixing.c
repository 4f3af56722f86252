#include "expert_mixing.h"

#include <math.h>
#include <string.h>

void mix_few(mixing_form form, const float *outputs, size_t num_values, const size_t *experts, const float *shares,
             size_t count, float *mixed) {
    memset(mixed, 0, num_values * sizeof *mixed);
    for (size_t place = 0; place < count; place++) {
        const float *answer = outputs + experts[place] * num_values;
        float share = shares[place], largest = answer[0], sum = 0;
        if (form == MIX_SUM) {
            for (size_t value = 0; value < num_values; value++) mixed[value] += share * answer[value];
            continue;
        }
        for (size_t value = 1; value < num_values; value++) largest = fmaxf(largest, answer[value]);
        for (size_t value = 0; value < num_values; value++) sum += expf(answer[value] - largest);
        for (size_t value = 0; value < num_values; value++) mixed[value] += share / sum * expf(answer[value] - largest);
    }
}
