/* How long a row takes on this machine, whole graph against routed. */
#ifndef MOE_BENCHMARK_H
#define MOE_BENCHMARK_H

#include "moe.h"

/* Answer `row` `calls` times by the whole graph and, where the file can, routed, by turns; print medians in
 * microseconds. Returns 0, or -1: see moe_error, or out of memory. */
int benchmark(moe *mixture, const float *row, moe_choice choice, size_t calls);

#endif
