/* SPDX-License-Identifier: MIT */
#include "script.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_BYTES 16384u /* of a child until it is another program: it calls nothing that is deep */
#define FIRST_OTHER_FD 3u
#define SIGNALS 64
#define KERNEL_SIGSET_BYTES 8u
#define EXIT_CODE 127

/* The child has the parent's thread-local memory, in which sanitizers keep what they know of a thread. */
#define UNWATCHED __attribute__((no_sanitize("address"), no_sanitize("thread"), no_sanitize("undefined")))
#define IN_CHILD static inline __attribute__((always_inline)) UNWATCHED
#if defined(__SANITIZE_THREAD__) /* its clone(2) takes every child for a fork, which has memory of its own */
int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#endif

/* -- system calls of the child ------------------------------------------------------------------------------------ */

#if defined(__x86_64__)
#define WAIT_FLAG 0
IN_CHILD long call(long number, long a, long b, long c, long d)
{
    long result;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define WAIT_FLAG 0
IN_CHILD long call(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else /* libc's write errno: the parent has to wait */
#define WAIT_FLAG CLONE_VFORK
IN_CHILD long call(long number, long a, long b, long c, long d)
{
    long result = syscall(number, a, b, c, d);
    return result < 0 ? -errno : result;
}
#endif

#define CALL(number, a, b, c, d) call(number, (long)(a), (long)(b), (long)(c), (long)(d))

/* What a child needs, in memory that stays until it has ended. */
struct tux_birth {
    _Alignas(16) uint8_t stack[STACK_BYTES];
    _Atomic pid_t borrows; /* not 0: the child still uses this memory. The kernel clears it */
    _Atomic int error;     /* the child's word to the parent */
    pid_t parent;
    int input, output, errors;
    uint64_t signals; /* bit number - 1: it has to be reset to what is usual */
    unsigned n_limits;
    int resources[TUX_MAX_SCRIPT_LIMITS];
    struct rlimit limits[TUX_MAX_SCRIPT_LIMITS];
    const char *path, *folder;
    const char *argv[2];
    const char *envp[TUX_MAX_SCRIPT_VARIABLES + 1];
    char text[];
};

/* In the parent's memory, beside the parent: it must write nothing that is not its own. */
UNWATCHED static int become(void *argument)
{
    struct tux_birth *birth = argument;
    static const uint64_t usual[8]; /* struct sigaction of the kernel: SIG_DFL, no flags, an empty mask */
    static const uint64_t none;
    long result = 0;
    /* Handlers of the parent must not run here, and what it ignores would stay ignored. */
    for (int number = 1; number <= SIGNALS; number++)
        if ((birth->signals >> (number - 1)) & 1u)
            CALL(SYS_rt_sigaction, number, usual, 0, KERNEL_SIGSET_BYTES);
    for (unsigned i = 0; result >= 0 && i < birth->n_limits; i++)
        result = CALL(SYS_prlimit64, 0, birth->resources[i], &birth->limits[i], 0);
    if (result >= 0)
        result = CALL(SYS_setsid, 0, 0, 0, 0);
    if (result >= 0)
        result = CALL(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
    if (result >= 0 && CALL(SYS_getppid, 0, 0, 0, 0) != birth->parent)
        result = -ESRCH; /* it is dead already */
    if (result >= 0)
        result = CALL(SYS_chdir, birth->folder, 0, 0, 0);
    if (result >= 0)
        result = CALL(SYS_dup3, birth->input, STDIN_FILENO, 0, 0);
    if (result >= 0)
        result = CALL(SYS_dup3, birth->output, STDOUT_FILENO, 0, 0);
    if (result >= 0)
        result = CALL(SYS_dup3, birth->errors, STDERR_FILENO, 0, 0);
    if (result >= 0) {
        /* All are closed by execve(2) already; this is for those that a library has opened without that mark. */
        result = CALL(SYS_close_range, FIRST_OTHER_FD, ~0u, CLOSE_RANGE_CLOEXEC, 0);
        if (result == -ENOSYS || result == -EINVAL) /* before Linux 5.11 */
            result = 0;
    }
    if (result >= 0)
        result = CALL(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, KERNEL_SIGSET_BYTES);
    if (result >= 0)
        result = CALL(SYS_execve, birth->path, birth->argv, birth->envp, 0);
    atomic_store(&birth->error, (int)-result);
    CALL(SYS_exit_group, EXIT_CODE, 0, 0, 0);
    return EXIT_CODE;
}

/* -- the parent --------------------------------------------------------------------------------------------------- */

static bool split_variables(struct tux_birth *birth, const char *at, size_t len)
{
    const char *end = at + len;
    unsigned n = 0;
    while (at < end) {
        const char *nul = memchr(at, 0, (size_t)(end - at));
        if (nul == NULL || n == TUX_MAX_SCRIPT_VARIABLES)
            return false;
        birth->envp[n++] = at;
        at = nul + 1;
    }
    birth->envp[n] = NULL;
    return true;
}

/* Signals that have a handler, or are ignored, in this process. The kernel is asked: sigaction(3) hides those that the C
 * library uses itself, and posix_spawn(3) leaves them ignored in whatever it starts. */
static uint64_t unusual_signals(void)
{
    uint64_t found = 0;
    for (int number = 1; number <= SIGNALS; number++) {
        uint64_t now[8] = {0}; /* struct sigaction of the kernel: the handler comes first */
        if (syscall(SYS_rt_sigaction, number, NULL, now, (size_t)KERNEL_SIGSET_BYTES) == 0 && now[0] != 0)
            found |= (uint64_t)1 << (number - 1);
    }
    return found;
}

static struct tux_birth *prepare(const struct tux_script *script)
{
    size_t path_len = strlen(script->path) + 1, folder_len = strlen(script->folder) + 1;
    size_t size = sizeof(struct tux_birth) + path_len + folder_len + script->variables_len;
    struct tux_birth *birth = aligned_alloc(_Alignof(struct tux_birth), (size + 15) / 16 * 16);
    if (birth == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    char *text = birth->text;
    memcpy(text, script->path, path_len);
    memcpy(text + path_len, script->folder, folder_len);
    memcpy(text + path_len + folder_len, script->variables, script->variables_len);
    birth->path = birth->argv[0] = text;
    birth->argv[1] = NULL;
    birth->folder = text + path_len;
    birth->parent = getpid();
    birth->signals = unusual_signals();
    birth->n_limits = script->n_limits;
    atomic_init(&birth->error, 0);
    atomic_init(&birth->borrows, 1);
    bool fits = script->n_limits <= TUX_MAX_SCRIPT_LIMITS &&
                split_variables(birth, text + path_len + folder_len, script->variables_len);
    errno = E2BIG;
    for (unsigned i = 0; fits && i < script->n_limits; i++) {
        struct rlimit *limit = &birth->limits[i];
        fits = getrlimit((__rlimit_resource_t)script->limits[i].resource, limit) == 0;
        if (script->limits[i].most < limit->rlim_max)
            limit->rlim_max = script->limits[i].most;
        limit->rlim_cur = limit->rlim_max;
        birth->resources[i] = script->limits[i].resource;
    }
    if (fits)
        return birth;
    free(birth);
    return NULL;
}

static void close_both(int *pair)
{
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
}

int tux_script_start(const struct tux_script *script, struct tux_child *child)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
    int result;
    sigset_t all, before;
    struct tux_birth *birth = prepare(script);
    if (birth == NULL)
        return -errno;
    *child = (struct tux_child){.pidfd = -1, .input = -1, .birth = birth};
    if ((script->input < 0 && pipe2(in, O_CLOEXEC) < 0) || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) {
        result = -errno;
        goto failed;
    }
    birth->input = script->input < 0 ? in[0] : script->input;
    birth->output = out[1];
    birth->errors = err[1];
    /* A pipe in the place of a standard descriptor would be taken away by the next dup3(2). */
    if (birth->input < (int)FIRST_OTHER_FD || out[0] < (int)FIRST_OTHER_FD || out[1] < (int)FIRST_OTHER_FD ||
        err[0] < (int)FIRST_OTHER_FD || err[1] < (int)FIRST_OTHER_FD) {
        result = -EBADF;
        goto failed;
    }
    /* Ours do not block; the script's do, as programs expect. */
    if (fcntl(out[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(err[0], F_SETFL, O_NONBLOCK) < 0 ||
        (in[1] >= 0 && fcntl(in[1], F_SETFL, O_NONBLOCK) < 0)) {
        result = -errno;
        goto failed;
    }
    sigfillset(&all); /* until the child has reset them */
    sigprocmask(SIG_SETMASK, &all, &before);
    child->pid = clone(become, birth->stack + STACK_BYTES,
                       CLONE_VM | WAIT_FLAG | CLONE_PIDFD | CLONE_CHILD_CLEARTID | SIGCHLD, birth, &child->pidfd, NULL,
                       &birth->borrows);
    result = child->pid < 0 ? -errno : 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (result < 0)
        goto failed;
    if (in[0] >= 0)
        close(in[0]);
    close(out[1]);
    close(err[1]);
    child->input = in[1];
    child->output = out[0];
    child->errors = err[0];
    return 0;
failed:
    close_both(in);
    close_both(out);
    close_both(err);
    free(birth);
    child->birth = NULL;
    return result;
}

int tux_child_error(const struct tux_child *child)
{
    return child->birth == NULL ? 0 : atomic_load(&child->birth->error);
}

bool tux_child_ended(struct tux_child *child, int *status)
{
    siginfo_t info = {.si_pid = 0};
    /* As long as it is not reaped its pid, which is its group's, belongs to nobody else. */
    if (waitid((idtype_t)P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
        return false;
    kill(-child->pid, SIGKILL);
    if (waitpid(child->pid, status, 0) != child->pid)
        return false;
    if (atomic_load(&child->birth->borrows) == 0) /* it is: memory is given back before an end is told */
        free(child->birth);
    child->birth = NULL;
    return true;
}

int tux_script_adopt_orphans(void)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}
