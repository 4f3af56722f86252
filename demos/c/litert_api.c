#include "litert_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool litert_load(litert_api *api, const char *path, char *error, size_t size) {
    memset(api, 0, sizeof *api);
    api->library = dlopen(path == NULL ? "libLiteRt.so" : path, RTLD_NOW | RTLD_LOCAL);
    if (api->library == NULL) {
        snprintf(error, size,
                 "expected LiteRT's library, got none (%s); it lies beside ai_edge_litert/__init__.py of the wheel",
                 dlerror());
        return false;
    }
    const char *missing = NULL;
/* ISO C has no cast from an object to a function; POSIX promises that the bytes are the same. */
#define LITERT_FIND(name, arguments)                                    \
    {                                                                   \
        void *found = dlsym(api->library, "LiteRt" #name);              \
        if (found == NULL && missing == NULL) missing = "LiteRt" #name; \
        memcpy(&api->name, &found, sizeof found);                       \
    }
    LITERT_STATUS_FUNCTIONS(LITERT_FIND)
    LITERT_VOID_FUNCTIONS(LITERT_FIND)
#undef LITERT_FIND
    if (missing != NULL) {
        snprintf(error, size, "expected libLiteRt.so of ai-edge-litert 2.1.6 or newer, got one without %s", missing);
        litert_unload(api);
        return false;
    }
    return true;
}

void litert_unload(litert_api *api) {
    if (api->library != NULL) dlclose(api->library);
    memset(api, 0, sizeof *api);
}
