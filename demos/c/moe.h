/* Run a mixture of experts written by moe-edge, in C: the whole graph, or only the experts that a row needs.
 *
 *     char error[MOE_ERROR_SIZE];
 *     moe *mixture = moe_open("my.tflite", NULL, error);
 *     if (mixture == NULL || moe_route(mixture, row, (moe_choice){.top_k = 2}) != 0) ...
 *     const float *prediction = moe_output(mixture, "prediction", &count);
 *     moe_close(mixture);
 *
 * One mixture answers one row at a time: give each thread its own. Nothing is allocated after moe_open.
 */
#ifndef MOE_H
#define MOE_H

#include <stdbool.h>
#include <stddef.h>

enum { MOE_ERROR_SIZE = 512 };

typedef struct moe moe;

/* Who weighs the answers of the experts that ran. */
typedef enum {
    MOE_MIX_FILE, /* the file's own `combine`, which takes every expert's: the whole graph's bits */
    MOE_MIX_FEW,  /* this program, only those that ran: fewer instructions, last bits may differ */
} moe_mixing;

typedef struct {
    const char *library; /* path of libLiteRt.so, or NULL for the one that the system's loader finds */
    bool skip_digests;   /* don't look for damage beyond truncation: where there is no libcrypto */
    moe_mixing mixing;
} moe_settings;

typedef struct {
    size_t num_features, num_outputs, num_experts;
    const char *not_routed; /* why moe_route can't answer, or NULL if it can */
    moe_mixing mixing;      /* MOE_MIX_FILE also where the file mixes in a way that this program doesn't know */
} moe_shape;

/* Which experts run: the heaviest, until their weights hold `mass` (0 or 1: all of it), at most `top_k` (0: all).
 * An expert with weight 0 never runs. Weights are scaled to sum to 1, unless all that aren't 0 run and no mass was
 * given. */
typedef struct {
    size_t top_k;
    double mass;
} moe_choice;

/* Open and check a file. settings: NULL for zeros. Returns NULL with one line in `error` if it can't be run. */
moe *moe_open(const char *path, const moe_settings *settings, char error[MOE_ERROR_SIZE]);

moe_shape moe_describe(const moe *mixture);

/* Answer a row of num_features float32 by the whole graph. Returns 0, or -1: see moe_error. */
int moe_predict(moe *mixture, const float *row);

/* Answer a row by the gate and the chosen experts. Returns 0, or -1: see moe_error. */
int moe_route(moe *mixture, const float *row, moe_choice choice);

/* One output of the last answer by name: "prediction", "routing_weights" (after moe_route those that counted, 0 for
 * experts that didn't run), and what else serving_default gives: "sigma", ... NULL if there is none.
 * It stays valid until the next answer. */
const float *moe_output(const moe *mixture, const char *name, size_t *count);

/* Why the last call gave -1, one line. */
const char *moe_error(const moe *mixture);

/* Release everything; NULL is fine. */
void moe_close(moe *mixture);

#endif
