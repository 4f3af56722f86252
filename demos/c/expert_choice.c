#include "expert_choice.h"

/* Absorbs the rounding of a sum of weights. */
static const double SUM_ERROR = 1e-9;

/* The heaviest expert that isn't chosen yet: lighter than the last chosen, or as heavy and behind it. */
static size_t next_heaviest(const float *weights, size_t num_experts, const size_t *chosen, size_t count) {
    size_t best = num_experts;
    for (size_t expert = 0; expert < num_experts; expert++) {
        if (count > 0) {
            size_t last = chosen[count - 1];
            if (weights[expert] > weights[last] || (weights[expert] == weights[last] && expert <= last)) continue;
        }
        if (best == num_experts || weights[expert] > weights[best]) best = expert;
    }
    return best;
}

size_t choose_experts(const float *weights, size_t num_experts, moe_choice choice, size_t *experts, float *shares) {
    bool to_mass = choice.mass > 0 && choice.mass < 1;
    size_t limit = choice.top_k == 0 || choice.top_k > num_experts ? num_experts : choice.top_k, positive = 0,
           count = 0;
    for (size_t expert = 0; expert < num_experts; expert++) {
        if (!(weights[expert] >= 0) || weights[expert] > 2) return 0;
        positive += weights[expert] > 0;
    }
    double total = 0;
    if (!to_mass && positive > 0 && positive <= limit) {
        for (size_t expert = 0; expert < num_experts; expert++)
            if (weights[expert] > 0) experts[count] = expert, shares[count++] = weights[expert];
        return count;
    }
    while (count < limit) {
        size_t expert = next_heaviest(weights, num_experts, experts, count);
        if (expert == num_experts || (weights[expert] <= 0 && count > 0)) break;
        experts[count++] = expert;
        total += (double)weights[expert];
        if (to_mass && total >= choice.mass - SUM_ERROR) break;
    }
    for (size_t place = 0; place < count; place++)
        shares[place] = total > 0 ? (float)((double)weights[experts[place]] / total) : 1.0f / (float)count;
    return count;
}
