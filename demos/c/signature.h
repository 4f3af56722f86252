/* One signature of a model, its inputs and outputs found by name, their memory made once. */
#ifndef MOE_SIGNATURE_H
#define MOE_SIGNATURE_H

#include "litert_api.h"

/* What every signature of a model shares. */
typedef struct {
    litert_api api;
    void *environment, *model, *options, *compiled;
} runtime;

enum { MOST_PORTS = 8 };

/* An input or an output. */
typedef struct {
    const char *name; /* the model's own */
    void *buffer;
    float *values;
    size_t count;
    bool borrowed; /* the buffer is another signature's */
    litert_type type;
} port;

typedef struct {
    size_t index, num_inputs, num_outputs;
    port inputs[MOST_PORTS], outputs[MOST_PORTS];
    void *input_buffers[MOST_PORTS], *output_buffers[MOST_PORTS];
} signature;

/* Load `bytes` (they stay the caller's, and must outlive the runtime). False: see `error`. */
bool runtime_open(runtime *host, const char *library, const void *bytes, size_t size, char *error, size_t error_size);

void runtime_close(runtime *host);

/* 1: opened; 0: the model has no signature of this name; -1: it has, but see `error`.
 * shared: an output (or input) of another signature that is to be this one's only input, or NULL. */
int signature_open(signature *opened, const runtime *host, const char *name, const port *shared, char *error,
                   size_t error_size);

/* Its input or output of this name, or NULL. */
const port *signature_input(const signature *opened, const char *name);
const port *signature_output(const signature *opened, const char *name);

/* 0 if it ran. */
int signature_run(signature *opened, const runtime *host);

void signature_close(signature *opened, const runtime *host);

#endif
