#include "benchmark.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MODES = 2, WARM_UP = 20 };

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int by_size(const void *first, const void *second) {
    int64_t a = *(const int64_t *)first, b = *(const int64_t *)second;
    return (a > b) - (a < b);
}

int benchmark(moe *mixture, const float *row, moe_choice choice, size_t calls) {
    size_t modes = moe_describe(mixture).not_routed == NULL ? MODES : 1;
    int64_t *times = malloc(MODES * calls * sizeof *times);
    if (times == NULL) return -1;
    double median[MODES] = {0, 0};
    int status = 0;
    for (size_t call = 0; call < WARM_UP + calls && status == 0; call++) {
        for (size_t mode = 0; mode < modes && status == 0; mode++) {
            int64_t start = now();
            status = mode == 0 ? moe_predict(mixture, row) : moe_route(mixture, row, choice);
            if (call >= WARM_UP) times[mode * calls + call - WARM_UP] = now() - start;
        }
    }
    for (size_t mode = 0; mode < modes && status == 0; mode++) {
        qsort(times + mode * calls, calls, sizeof *times, by_size);
        median[mode] = (double)times[mode * calls + calls / 2] / 1000;
    }
    free(times);
    if (status != 0) return status;
    printf("whole graph  %10.2f us a row, median of %zu\n", median[0], calls);
    if (modes > 1) printf("routed       %10.2f us a row, %.2f times faster\n", median[1], median[0] / median[1]);
    return 0;
}
