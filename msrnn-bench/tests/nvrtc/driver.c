/* A driver without a card, so that kernels can be compiled where there is none. It answers what burn's
 * CUDA backend asks of libcuda, keeps "device" memory in the host's, launches nothing, and writes each
 * kernel that it is given, as PTX, to $MSRNN_DRIVER_OUT/N.ptx, beside N.case: what was being done, which
 * the test says in $MSRNN_DRIVER_OUT/case. The card's compute capability is $MSRNN_DRIVER_SM. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t ptr;
#define OK 0
#define INVALID 1
#define DOES_NOTHING(name) int name(void) { return OK; }

static int sm(void) {
    const char *text = getenv("MSRNN_DRIVER_SM");
    return text ? atoi(text) : 80;
}

int cuInit(unsigned flags) { (void)flags; return OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGetCount(int *count) { *count = 1; return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal == 0 ? OK : INVALID; }
int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    snprintf(name, (size_t)length, "no card, sm_%d", sm());
    return OK;
}
int cuDeviceGetPCIBusId(char *id, int length, int device) { (void)device; snprintf(id, (size_t)length, "0000:00:00.0"); return OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = (size_t)8 << 30; return OK; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = *total = (size_t)8 << 30; return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {
    case 1: *value = 1024; break;                          /* threads in a block */
    case 2: case 3: *value = 1024; break;                  /* of a block along x and y */
    case 4: *value = 64; break;                            /* along z */
    case 5: *value = 2147483647; break;                    /* of a grid along x */
    case 6: case 7: *value = 65535; break;                 /* along y and z */
    case 8: *value = 48 << 10; break;                      /* shared memory of a block */
    case 10: *value = 32; break;                           /* of a warp */
    case 16: *value = sm() >= 90 ? 132 : 108; break;       /* multiprocessors */
    case 75: *value = sm() / 10; break;
    case 76: *value = sm() % 10; break;
    case 97: *value = (sm() >= 90 ? 227 : 163) << 10; break; /* shared memory of a block at most */
    case 115: *value = 1; break;                           /* memory pools */
    default: *value = 0;
    }
    return OK;
}

/* One context, and streams and events that are always done. */
static int things[4];
static __thread void *current;
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = &things[0]; return OK; }
int cuCtxSetCurrent(void *context) { current = context; return OK; }
int cuCtxGetCurrent(void **context) { *context = current; return OK; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -1; return OK; }
int cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = &things[1]; return OK; }
int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) { (void)priority; return cuStreamCreate(stream, flags); }
int cuEventCreate(void **event, unsigned flags) { (void)flags; *event = &things[2]; return OK; }
/* Long enough for whoever measures until it is. */
int cuEventElapsedTime(float *ms, void *start, void *end) { (void)start; (void)end; *ms = 10; return OK; }
int cuEventElapsedTime_v2(float *ms, void *start, void *end) { return cuEventElapsedTime(ms, start, end); }
DOES_NOTHING(cuDevicePrimaryCtxRelease_v2)
DOES_NOTHING(cuCtxSynchronize)
DOES_NOTHING(cuStreamWaitEvent)
DOES_NOTHING(cuStreamDestroy_v2)
DOES_NOTHING(cuStreamQuery)
DOES_NOTHING(cuEventRecord)
DOES_NOTHING(cuEventQuery)
DOES_NOTHING(cuEventDestroy_v2)

int cuMemAlloc_v2(ptr *at, size_t bytes) {
    void *memory = calloc(1, bytes ? bytes : 1);
    *at = (ptr)(uintptr_t)memory;
    return memory ? OK : 2;
}
int cuMemAllocAsync(ptr *at, size_t bytes, void *stream) { (void)stream; return cuMemAlloc_v2(at, bytes); }
int cuMemFree_v2(ptr at) { free((void *)(uintptr_t)at); return OK; }
int cuMemFreeAsync(ptr at, void *stream) { (void)stream; return cuMemFree_v2(at); }
int cuMemAllocHost_v2(void **at, size_t bytes) { *at = calloc(1, bytes ? bytes : 1); return *at ? OK : 2; }
int cuMemHostAlloc(void **at, size_t bytes, unsigned flags) { (void)flags; return cuMemAllocHost_v2(at, bytes); }
int cuMemFreeHost(void *at) { free(at); return OK; }
int cuMemcpyHtoDAsync_v2(ptr to, const void *from, size_t bytes, void *stream) { (void)stream; memcpy((void *)(uintptr_t)to, from, bytes); return OK; }
int cuMemcpyDtoHAsync_v2(void *to, ptr from, size_t bytes, void *stream) { (void)stream; memcpy(to, (void *)(uintptr_t)from, bytes); return OK; }
int cuMemcpyDtoDAsync_v2(ptr to, ptr from, size_t bytes, void *stream) { (void)stream; memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes); return OK; }
DOES_NOTHING(cuMemcpy2DAsync_v2) /* what is read back is not looked at */
DOES_NOTHING(cuMemsetD8Async)
DOES_NOTHING(cuMemsetD8_v2)

/* A kernel that is loaded. */
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static int loaded;
static void copy_case(const char *folder, int n) {
    char path[4096], text[4096];
    snprintf(path, sizeof path, "%s/case", folder);
    FILE *from = fopen(path, "r");
    if (!from) return;
    size_t length = fread(text, 1, sizeof text, from);
    fclose(from);
    snprintf(path, sizeof path, "%s/%d.case", folder, n);
    FILE *to = fopen(path, "w");
    if (!to) return;
    fwrite(text, 1, length, to);
    fclose(to);
}
int cuModuleLoadData(void **module, const void *image) {
    const char *folder = getenv("MSRNN_DRIVER_OUT");
    *module = &things[3];
    if (!folder) return OK;
    pthread_mutex_lock(&writing);
    char path[4096];
    snprintf(path, sizeof path, "%s/%d.ptx", folder, loaded);
    FILE *to = fopen(path, "w");
    int wrong = !to || fputs((const char *)image, to) < 0;
    if (to && fclose(to)) wrong = 1;
    copy_case(folder, loaded++);
    pthread_mutex_unlock(&writing);
    return wrong ? INVALID : OK;
}
/* CubeCL measures the card with kernels that it makes longer until they take long enough: these do. */
static int measures, waits;
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = strstr(name, "throughput") ? (void *)&measures : module;
    return OK;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz; (void)shared; (void)stream; (void)parameters; (void)extra;
    if (function == (void *)&measures) waits = 1;
    return OK;
}
static int wait(void) {
    if (waits) usleep(25000);
    waits = 0;
    return OK;
}
int cuStreamSynchronize(void *stream) { (void)stream; return wait(); }
int cuEventSynchronize(void *event) { (void)event; return wait(); }
DOES_NOTHING(cuModuleUnload)
DOES_NOTHING(cuFuncSetAttribute)
int cuFuncGetAttribute(int *value, int attribute, void *function) { (void)attribute; (void)function; *value = 0; return OK; }
DOES_NOTHING(cuLaunchKernelEx)
DOES_NOTHING(cuLaunchCooperativeKernel)

/* Graphs of nothing. */
int cuStreamIsCapturing(void *stream, int *status) { (void)stream; *status = 0; return OK; }
DOES_NOTHING(cuStreamBeginCapture_v2)
int cuStreamEndCapture(void *stream, void **graph) { (void)stream; *graph = &things[3]; return OK; }
int cuGraphGetNodes(void *graph, void **nodes, size_t *count) { (void)graph; (void)nodes; *count = 0; return OK; }
int cuGraphNodeGetType(void *node, int *type) { (void)node; *type = 0; return OK; }
int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) { (void)graph; (void)flags; *exec = &things[3]; return OK; }
DOES_NOTHING(cuGraphUpload)
DOES_NOTHING(cuGraphLaunch)
DOES_NOTHING(cuGraphDestroy)
DOES_NOTHING(cuGraphExecDestroy)

int cuGetErrorName(int error, const char **text) { (void)error; *text = "an error of the driver without a card"; return OK; }
int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }
DOES_NOTHING(cuTensorMapEncodeTiled)
DOES_NOTHING(cuTensorMapEncodeIm2col)
DOES_NOTHING(cuTensorMapEncodeIm2colWide)
