/* SPDX-License-Identifier: MIT */
/* Programs that are started for one request each: what they get, what they inherit, how they end. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "script.h"

#define PATIENCE_MS 20000

static const char variables[] = "A=one\0B=two";

static void start(const char *path, int input, struct tux_child *child)
{
    const struct tux_script script = {
        .path = path, .folder = "/", .variables = variables, .variables_len = sizeof variables, .input = input};
    CHECK(tux_script_start(&script, child) == 0);
}

static bool wait_for(int fd)
{
    struct pollfd state = {.fd = fd, .events = POLLIN};
    return poll(&state, 1, PATIENCE_MS) == 1;
}

/* All that the program writes. */
static size_t read_all(int fd, char *text, size_t size)
{
    size_t len = 0;
    while (len < size && wait_for(fd)) {
        ssize_t n = read(fd, text + len, size - len);
        if (n == 0)
            break;
        if (n > 0)
            len += (size_t)n;
    }
    return len;
}

static int end(struct tux_child *child)
{
    int status = -1;
    CHECK(wait_for(child->pidfd));
    CHECK(tux_child_ended(child, &status));
    close(child->pidfd);
    close(child->output);
    close(child->errors);
    return status;
}

static void test_a_program_runs(void)
{
    struct tux_child child;
    char text[256];
    start("/usr/bin/env", -1, &child);
    CHECK(child.input >= 0);
    close(child.input);
    size_t len = read_all(child.output, text, sizeof text);
    CHECK(len == 12 && memcmp(text, "A=one\nB=two\n", 12) == 0);
    CHECK(tux_child_error(&child) == 0);
    CHECK(end(&child) == 0);
}

static void test_input_is_passed(void)
{
    struct tux_child child;
    char text[16];
    start("/bin/cat", -1, &child);
    CHECK(write(child.input, "hello", 5) == 5);
    close(child.input);
    CHECK(read_all(child.output, text, sizeof text) == 5 && memcmp(text, "hello", 5) == 0);
    CHECK(end(&child) == 0);

    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    start("/bin/cat", file, &child);
    CHECK(child.input == -1);
    CHECK(read_all(child.output, text, sizeof text) == 0);
    CHECK(end(&child) == 0);
    close(file);
}

static void test_what_cannot_be_run_is_told(void)
{
    static const struct {
        const char *path;
        int error;
    } cases[] = {{"/nowhere/at/all", ENOENT}, {"/", EACCES}, {"/etc/passwd", EACCES}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tux_child child;
        char byte;
        start(cases[i].path, -1, &child);
        close(child.input);
        CHECK(read_all(child.output, &byte, 1) == 0);
        CHECK(tux_child_error(&child) == cases[i].error);
        CHECK(WEXITSTATUS(end(&child)) == 127);
    }
}

static void test_signals_are_the_usual_ones(void)
{
    struct tux_child child;
    sigset_t blocked, before;
    int status;
    signal(SIGTERM, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    start("/bin/cat", -1, &child);
    CHECK(!tux_child_ended(&child, &status));
    CHECK(write(child.input, "x", 1) == 1 && wait_for(child.output)); /* it is the program by now */
    CHECK(kill(-child.pid, SIGTERM) == 0);
    status = end(&child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    close(child.input);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGTERM, SIG_DFL);
}

static void test_bounds(void)
{
    const struct tux_script_limit limits[] = {{RLIMIT_NOFILE, 33}, {RLIMIT_CORE, 0}};
    char text[4096] = "";
    struct tux_script script = {
        .path = "/bin/cat", .folder = "/", .variables = variables, .variables_len = sizeof variables, .input = -1,
        .limits = limits, .n_limits = 2};
    struct tux_child child;
    CHECK(tux_script_start(&script, &child) == 0);
    CHECK(write(child.input, "x", 1) == 1 && wait_for(child.output));
    snprintf(text, sizeof text, "/proc/%d/limits", (int)child.pid);
    int file = open(text, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(file, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    close(file);
    const char *line = strstr(text, "Max open files");
    CHECK(line != NULL && strtol(line + strlen("Max open files"), NULL, 10) == 33);
    close(child.input);
    CHECK(end(&child) == 0);
    script.n_limits = TUX_MAX_SCRIPT_LIMITS + 1;
    CHECK(tux_script_start(&script, &child) == -E2BIG);
    script.n_limits = 0;
    script.variables_len = 3; /* the last one has no end */
    CHECK(tux_script_start(&script, &child) == -E2BIG);
}

static void test_many_at_once(void)
{
    struct tux_child children[32];
    char text[16];
    for (size_t i = 0; i < 32; i++)
        start("/bin/cat", -1, &children[i]);
    for (size_t i = 32; i-- > 0;) {
        CHECK(write(children[i].input, "abc", 3) == 3);
        close(children[i].input);
        CHECK(read_all(children[i].output, text, sizeof text) == 3);
        CHECK(end(&children[i]) == 0);
    }
}

int main(void)
{
    CHECK(tux_script_adopt_orphans() == 0);
    test_a_program_runs();
    test_input_is_passed();
    test_what_cannot_be_run_is_told();
    test_signals_are_the_usual_ones();
    test_bounds();
    test_many_at_once();
    return check_report();
}
