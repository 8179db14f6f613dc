/* Stands before NVRTC, which is $MSRNN_NVRTC, and keeps what it refuses: burn tries another kernel where one does
 * not compile, so that a refusal need not be seen. Source and log go to $MSRNN_DRIVER_OUT/N.refused.
 *
 * burn's tiled products are not compiled but answered for with an empty kernel: it tries dozens of them for every shape,
 * half a second each, to see which is the fastest, and nothing is computed here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int result;
typedef struct {
    void *program;
    char *source, *empty;
} program;

/* The PTX of an empty kernel in a tiled product's place; NULL for any other source. */
static char *empty_kernel(const char *source) {
    const char *name = strstr(source, " matmul_entry");
    if (!name) return NULL;
    int length = (int)strcspn(++name, "( \n");
    char *ptx = calloc(1, length + 200);
    sprintf(ptx, "// left out\n.version 8.0\n.target sm_80\n.address_size 64\n.visible .entry %.*s(\n)\n{\n\tret;\n}\n", length,
            name);
    return ptx;
}

static void *real(const char *name) {
    static void *library;
    if (!library) library = dlopen(getenv("MSRNN_NVRTC"), RTLD_NOW | RTLD_LOCAL);
    void *function = library ? dlsym(library, name) : NULL;
    if (!function) {
        fprintf(stderr, "no %s in %s\n", name, getenv("MSRNN_NVRTC"));
        abort();
    }
    return function;
}
#define REAL(name, ...) ((result(*)(__VA_ARGS__))real(name))

result nvrtcVersion(int *major, int *minor) { return REAL("nvrtcVersion", int *, int *)(major, minor); }
const char *nvrtcGetErrorString(result error) { return ((const char *(*)(result))real("nvrtcGetErrorString"))(error); }
result nvrtcCreateProgram(void **out, const char *source, const char *name, int n, const char *const *headers,
                          const char *const *names) {
    program *made = calloc(1, sizeof *made);
    made->source = strdup(source);
    *out = made;
    return REAL("nvrtcCreateProgram", void **, const char *, const char *, int, const char *const *, const char *const *)(
        &made->program, source, name, n, headers, names);
}
result nvrtcDestroyProgram(void **p) {
    program *made = *p;
    result done = REAL("nvrtcDestroyProgram", void **)(&made->program);
    free(made->source);
    free(made->empty);
    free(made);
    *p = NULL;
    return done;
}
result nvrtcGetProgramLogSize(void *p, size_t *size) { return REAL("nvrtcGetProgramLogSize", void *, size_t *)(((program *)p)->program, size); }
result nvrtcGetProgramLog(void *p, char *log) { return REAL("nvrtcGetProgramLog", void *, char *)(((program *)p)->program, log); }
result nvrtcGetPTXSize(void *p, size_t *size) {
    program *made = p;
    if (!made->empty) return REAL("nvrtcGetPTXSize", void *, size_t *)(made->program, size);
    *size = strlen(made->empty) + 1;
    return 0;
}
result nvrtcGetPTX(void *p, char *ptx) {
    program *made = p;
    if (!made->empty) return REAL("nvrtcGetPTX", void *, char *)(made->program, ptx);
    strcpy(ptx, made->empty);
    return 0;
}
result nvrtcCompileProgram(void *p, int n, const char *const *options) {
    static atomic_int refused;
    program *made = p;
    if ((made->empty = empty_kernel(made->source))) return 0;
    result done = REAL("nvrtcCompileProgram", void *, int, const char *const *)(made->program, n, options);
    const char *folder = getenv("MSRNN_DRIVER_OUT");
    if (done == 0 || !folder) return done;
    size_t size = 0;
    nvrtcGetProgramLogSize(p, &size);
    char *log = calloc(1, size + 1), path[4096];
    nvrtcGetProgramLog(p, log);
    snprintf(path, sizeof path, "%s/%d.refused", folder, atomic_fetch_add(&refused, 1));
    FILE *to = fopen(path, "w");
    if (!to) abort();
    fprintf(to, "%s\n\n%s", log, made->source);
    if (fclose(to)) abort();
    free(log);
    return done;
}
