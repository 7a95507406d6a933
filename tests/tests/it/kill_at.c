/*
 * Preloaded into a process, this kills it before its KILL_AT-th call that syncs or renames a file, so that a test which counts up
 * from 1 ends the process at every relevant point. With SYNC_MS, each sync takes that many milliseconds longer.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void count(void) {
    static int calls;
    const char *at = getenv("KILL_AT");
    if (at != NULL && __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == atoi(at)) kill(getpid(), SIGKILL);
}

static void delay(void) {
    const char *milliseconds = getenv("SYNC_MS");
    if (milliseconds != NULL) usleep(atoi(milliseconds) * 1000);
}

int fsync(int file) {
    count();
    delay();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

int fdatasync(int file) {
    count();
    delay();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}

int rename(const char *from, const char *to) {
    count();
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}
