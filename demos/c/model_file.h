/* A .tflite of moe-edge in memory, checked before a runtime sees it: LiteRT believes offsets, and a truncated file
 * would end the process. docs/FILE_FORMAT.md says what the digests cover. */
#ifndef MOE_MODEL_FILE_H
#define MOE_MODEL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *bytes; /* mapped; outlives the runtime's model */
    size_t size;
} model_file;

/* Map a file; check that it is whole and, with `digests`, that it is undamaged (its weights up to 4 MiB, as Predictor).
 * False: `error` (error_size bytes) says what is wrong, and nothing stays open. */
bool model_file_open(model_file *file, const char *path, bool digests, char *error, size_t error_size);

void model_file_close(model_file *file);

#endif
