/* The part of LiteRT's C interface that this program calls, declared by hand: the wheel brings the library, no header.
 *
 * Checked against libLiteRt.so of ai-edge-litert 2.3.0, x86-64 and arm64. Handles are opaque; every function returns 0
 * when it worked. LiteRtCreateModelFromBuffer takes the environment first since 2.1.6; older ones differ.
 */
#ifndef MOE_LITERT_API_H
#define MOE_LITERT_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LITERT_FLOAT32 = 1, LITERT_ON_CPU = 1, LITERT_MOST_SIZES = 8 };

/* LiteRtRankedTensorType: 72 bytes. */
typedef struct {
    int32_t element;
    uint32_t rank; /* its lowest 7 bits; bit 7 says that strides are given */
    int32_t sizes[LITERT_MOST_SIZES];
    uint32_t strides[LITERT_MOST_SIZES];
} litert_type;
_Static_assert(sizeof(litert_type) == 72, "as the library has it");

/* LiteRtEnvOption with a whole number as its value: 24 bytes. */
typedef struct {
    int32_t tag;
    int32_t value_type;
    int64_t unused;
    int64_t value;
} litert_option;

/* name without "LiteRt", arguments */
#define LITERT_STATUS_FUNCTIONS(X)                                                                                     \
    X(CreateEnvironment, (int count, const void *options, void **environment))                                         \
    X(CreateModelFromBuffer, (void *environment, const void *bytes, size_t size, void **model))                        \
    X(GetNumModelSignatures, (void *model, size_t *count))                                                             \
    X(GetModelSignature, (void *model, size_t index, void **signature))                                                \
    X(GetSignatureKey, (void *signature, const char **name))                                                           \
    X(GetNumSignatureInputs, (void *signature, size_t *count))                                                         \
    X(GetNumSignatureOutputs, (void *signature, size_t *count))                                                        \
    X(GetSignatureInputName, (void *signature, size_t index, const char **name))                                       \
    X(GetSignatureOutputName, (void *signature, size_t index, const char **name))                                      \
    X(GetSignatureInputTensor, (void *signature, const char *name, void **tensor))                                     \
    X(GetSignatureOutputTensor, (void *signature, const char *name, void **tensor))                                    \
    X(GetSignatureSubgraph, (void *signature, void **subgraph))                                                        \
    X(GetSubgraphInput, (void *subgraph, size_t index, void **tensor))                                                 \
    X(GetSubgraphOutput, (void *subgraph, size_t index, void **tensor))                                                \
    X(GetRankedTensorType, (void *tensor, litert_type *type))                                                          \
    X(CreateOptions, (void **options))                                                                                 \
    X(SetOptionsHardwareAccelerators, (void *options, int which))                                                      \
    X(CreateCompiledModel, (void *environment, void *model, void *options, void **compiled))                           \
    X(GetCompiledModelInputBufferRequirements, (void *compiled, size_t signature, size_t index, void **requirements))  \
    X(GetCompiledModelOutputBufferRequirements, (void *compiled, size_t signature, size_t index, void **requirements)) \
    X(CreateManagedTensorBufferFromRequirements,                                                                       \
      (void *environment, const litert_type *type, void *requirements, void **buffer))                                 \
    X(GetTensorBufferHostMemory, (void *buffer, void **address))                                                       \
    X(RunCompiledModel,                                                                                                \
      (void *compiled, size_t signature, size_t num_inputs, void **inputs, size_t num_outputs, void **outputs))

#define LITERT_VOID_FUNCTIONS(X)               \
    X(DestroyEnvironment, (void *environment)) \
    X(DestroyModel, (void *model))             \
    X(DestroyOptions, (void *options))         \
    X(DestroyCompiledModel, (void *compiled))  \
    X(DestroyTensorBuffer, (void *buffer))

typedef struct {
    void *library;
#define LITERT_DECLARE(name, arguments) int(*name) arguments;
    LITERT_STATUS_FUNCTIONS(LITERT_DECLARE)
#undef LITERT_DECLARE
#define LITERT_DECLARE(name, arguments) void(*name) arguments;
    LITERT_VOID_FUNCTIONS(LITERT_DECLARE)
#undef LITERT_DECLARE
} litert_api;

/* Open the library and find every function. path: of libLiteRt.so, or NULL for the one that the system's loader finds.
 * False: `error` (size bytes) says what is missing. */
bool litert_load(litert_api *api, const char *path, char *error, size_t size);

void litert_unload(litert_api *api);

#endif
