/* Which experts a row gets, and what each counts: the rules of moe_edge/runtime/expert_choice.py for one row. */
#ifndef MOE_EXPERT_CHOICE_H
#define MOE_EXPERT_CHOICE_H

#include "moe.h"

/* Choose among `weights` (num_experts of them), heaviest first; of equal weights the lower index comes first.
 * experts, shares: room for num_experts; shares sum to 1. Returns how many run, 0 if the weights aren't numbers. */
size_t choose_experts(const float *weights, size_t num_experts, moe_choice choice, size_t *experts, float *shares);

#endif
