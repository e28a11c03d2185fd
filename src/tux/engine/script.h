/* SPDX-License-Identifier: MIT */
/* Programs that are started for one request each (CGI). Used by the process that serves CGI and by nothing else: the engine
 * starts no programs.
 *
 * A start costs what execve(2) costs: until then the child borrows the parent's memory (CLONE_VM), so nothing of the parent is
 * copied, however large it is. And the parent does not wait for it (no CLONE_VFORK): on a busy processor that can take
 * milliseconds. So what the child reads lies in memory of its own, and it makes system calls by itself: those of libc write
 * errno, which is the parent's. */
#ifndef TUX_SCRIPT_H
#define TUX_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TUX_MAX_SCRIPT_LIMITS 8u      /* resources that are bounded at once */
#define TUX_MAX_SCRIPT_VARIABLES 512u /* a head has 100 fields; the rest is ours, and the configuration's */

struct tux_script_limit {
    int resource; /* RLIMIT_... */
    uint64_t most;
};

struct tux_script {
    const char *path;      /* absolute; it is argv[0], and there is no other argument */
    const char *folder;    /* where it finds itself */
    const char *variables; /* NAME=VALUE, each ended by a NUL */
    size_t variables_len;
    int input; /* its standard input, over 2; -1: a pipe is made */
    const struct tux_script_limit *limits;
    unsigned n_limits;
};

struct tux_child {
    pid_t pid; /* leads a session and a process group of its own, as soon as it is a program */
    int pidfd;
    int input; /* what is written here the script reads; -1 unless a pipe was asked for */
    int output, errors;
    struct tux_birth *birth; /* of tux_child_ended */
};

/* Start a program. It inherits no descriptor but its three, no signal that is blocked or ignored, and dies with the thread that
 * started it. All descriptors are the caller's; they do not block and are not inherited. Returns 0, or -errno with nothing
 * started. That the program itself cannot be executed is known later: tux_child_error. One thread of a process may call it. */
int tux_script_start(const struct tux_script *script, struct tux_child *child);

/* The errno of a child that could not become the program, or 0. Settled once its output has ended. */
int tux_child_error(const struct tux_child *child);

/* Has it ended? Then what is left of its process group is killed, and it is reaped: *status is as of wait(2), and the pid must
 * not be used any more, nor any of these functions be called for it. Otherwise false. */
bool tux_child_ended(struct tux_child *child, int *status);

/* Orphans of scripts come to this process from now on, and can be reaped. Returns 0 or -errno. */
int tux_script_adopt_orphans(void);

#endif
