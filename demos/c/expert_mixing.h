/* Mix the answers of the experts that ran, without those that didn't: two forms of `combine` that need no graph. */
#ifndef MOE_EXPERT_MIXING_H
#define MOE_EXPERT_MIXING_H

#include <stddef.h>

typedef enum { MIX_SUM, MIX_SOFTMAX } mixing_form;

/* mixed[v] = sum over experts of share * answer[v], or of share * softmax(answer)[v].
 * outputs: every expert's answer, num_values each; experts: which of them ran, count of them, with their shares.
 * scratch: room for num_values. */
void mix_few(mixing_form form, const float *outputs, size_t num_values, const size_t *experts, const float *shares,
             size_t count, float *mixed, float *scratch);

#endif
