#include "model_file.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_NAME "moe_edge_sha256"

enum { DIGEST = 32, SMALL_WEIGHTS = 4 << 20, LEAST_SIZE = 16 };

/* Slots of the public TFLite schema. */
enum { MODEL_BUFFERS = 4, MODEL_METADATA = 6 };
enum { BUFFER_DATA = 0, BUFFER_OFFSET = 1, BUFFER_SIZE = 2 };
enum { METADATA_NAME = 0, METADATA_BUFFER = 1 };

/* Reads a flatbuffer, little-endian; what lies outside the file reads as 0 and is remembered. */
typedef struct {
    const uint8_t *bytes;
    size_t size;
    bool outside;
} reader;

static uint64_t number(reader *from, size_t at, unsigned width) {
    uint64_t value = 0;
    if (at > from->size || from->size - at < width) {
        from->outside = true;
        return 0;
    }
    for (unsigned byte = 0; byte < width; byte++) value |= (uint64_t)from->bytes[at + byte] << (8 * byte);
    return value;
}

/* Where a table's field lies; 0 if it isn't there. */
static size_t field(reader *from, size_t table, unsigned slot) {
    int32_t back = (int32_t)number(from, table, 4);
    size_t vtable = (size_t)((int64_t)table - back), place = 4 + 2 * (size_t)slot;
    if (place + 2 > number(from, vtable, 2)) return 0;
    size_t offset = number(from, vtable + place, 2);
    return offset == 0 ? 0 : table + offset;
}

/* What an offset in the file points to. */
static size_t follow(reader *from, size_t at) {
    return at == 0 ? 0 : at + number(from, at, 4);
}

static size_t entry(reader *from, size_t vector, size_t index) {
    return follow(from, vector + 4 + 4 * index);
}

static size_t entries(reader *from, size_t vector) {
    return vector == 0 ? 0 : number(from, vector, 4);
}

typedef struct {
    size_t head;    /* where the weights begin */
    size_t end;     /* where they end */
    size_t digests; /* where the 64 bytes lie, 0 if there are none */
} layout;

static layout find_layout(reader *from) {
    layout found = {from->size, 0, 0};
    size_t model = number(from, 0, 4), buffers = follow(from, field(from, model, MODEL_BUFFERS));
    size_t count = entries(from, buffers);
    for (size_t index = 0; index < count && !from->outside; index++) {
        size_t buffer = entry(from, buffers, index);
        size_t at = field(from, buffer, BUFFER_OFFSET), length = field(from, buffer, BUFFER_SIZE);
        uint64_t offset = at == 0 ? 0 : number(from, at, 8), size = length == 0 ? 0 : number(from, length, 8);
        if (offset <= 1) continue;
        if (offset > SIZE_MAX / 2 || size > SIZE_MAX / 2) {
            from->outside = true;
            break;
        }
        if (offset < found.head) found.head = offset;
        if (offset + size > found.end) found.end = offset + size;
    }
    size_t metadata = follow(from, field(from, model, MODEL_METADATA));
    count = entries(from, metadata);
    for (size_t index = 0; index < count && !from->outside; index++) {
        size_t item = entry(from, metadata, index), name = follow(from, field(from, item, METADATA_NAME));
        size_t length = name == 0 ? 0 : number(from, name, 4), place = field(from, item, METADATA_BUFFER);
        if (length != strlen(HASH_NAME) || name + 4 + length > from->size) continue;
        if (memcmp(from->bytes + name + 4, HASH_NAME, length) != 0) continue;
        size_t buffer = place == 0 ? 0 : number(from, place, 4);
        if (buffer >= entries(from, buffers)) continue;
        size_t data = follow(from, field(from, entry(from, buffers, buffer), BUFFER_DATA));
        if (entries(from, data) == 2 * DIGEST && data + 4 + 2 * DIGEST <= found.head) found.digests = data + 4;
    }
    return found;
}

typedef int (*digest_function)(const void *, size_t, unsigned char *, unsigned *, const void *, void *);
typedef const void *(*algorithm_function)(void);

/* NULL if both digests are right, else what is wrong. */
static const char *check_digests(model_file *file, layout place) {
    void *crypto = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (crypto == NULL) crypto = dlopen("libcrypto.so.1.1", RTLD_NOW | RTLD_LOCAL);
    void *found[2] = {NULL, NULL};
    if (crypto != NULL) found[0] = dlsym(crypto, "EVP_Digest"), found[1] = dlsym(crypto, "EVP_sha256");
    if (found[0] == NULL || found[1] == NULL) {
        if (crypto != NULL) dlclose(crypto);
        return "can't be checked for damage: expected OpenSSL's libcrypto.so.3, got none; install it, or skip the "
               "check";
    }
    digest_function digest;
    algorithm_function algorithm;
    memcpy(&digest, &found[0], sizeof digest);
    memcpy(&algorithm, &found[1], sizeof algorithm);
    unsigned char stored[2 * DIGEST], got[DIGEST];
    memcpy(stored, file->bytes + place.digests, sizeof stored);
    memset(file->bytes + place.digests, 0, sizeof stored); /* the mapping is private */
    bool right = digest(file->bytes, place.head, got, NULL, algorithm(), NULL) == 1 && memcmp(got, stored, DIGEST) == 0;
    memcpy(file->bytes + place.digests, stored, sizeof stored);
    if (right && file->size - place.head <= SMALL_WEIGHTS) {
        right = digest(file->bytes + place.head, file->size - place.head, got, NULL, algorithm(), NULL) == 1 &&
                memcmp(got, stored + DIGEST, DIGEST) == 0;
    }
    dlclose(crypto);
    return right ? NULL : "is damaged: its digest differs; copy the file again";
}

static const char *check(model_file *file, bool digests) {
    if (memcmp(file->bytes + 4, "TFL3", 4) != 0) return "isn't a .tflite; make one: moe-edge convert";
    reader from = {file->bytes, file->size, false};
    layout place = find_layout(&from);
    if (from.outside || place.end > file->size) return "is truncated or damaged; copy the file again";
    if (place.digests == 0) return "wasn't written by moe-edge, or is damaged; make one: moe-edge convert";
    return digests ? check_digests(file, place) : NULL;
}

bool model_file_open(model_file *file, const char *path, bool digests, char *error, size_t error_size) {
    *file = (model_file){NULL, 0};
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        snprintf(error, error_size, "%s: %s", path, strerror(errno));
        if (descriptor >= 0) close(descriptor);
        return false;
    }
    const char *wrong = NULL;
    if (!S_ISREG(status.st_mode))
        wrong = "isn't a file";
    else if (status.st_size < LEAST_SIZE)
        wrong = "is empty or truncated; copy the file again";
    void *bytes = MAP_FAILED;
    if (wrong == NULL) {
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
        if (bytes == MAP_FAILED) wrong = strerror(errno);
    }
    close(descriptor);
    if (wrong == NULL) {
        *file = (model_file){bytes, (size_t)status.st_size};
        wrong = check(file, digests);
    }
    if (wrong == NULL) return true;
    snprintf(error, error_size, "%s: %s", path, wrong);
    model_file_close(file);
    return false;
}

void model_file_close(model_file *file) {
    if (file->bytes != NULL) munmap(file->bytes, file->size);
    *file = (model_file){NULL, 0};
}
