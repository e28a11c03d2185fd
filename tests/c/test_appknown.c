/* SPDX-License-Identifier: MIT */
/* Which files the engine keeps for a process: those that are sent again, the latest of them. */
#include "check.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "appknown.h"

static struct tux_app_known known;
static uint32_t handle, forget;

static int new_file(void)
{
    int fd = memfd_create("known", MFD_CLOEXEC);
    if (fd < 0 || write(fd, "known", 5) != 5)
        abort();
    return fd;
}

static void test_a_file_that_comes_again(void)
{
    int fd = new_file();
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_BY_DESCRIPTOR);
    CHECK(handle == TUX_APP_NO_HANDLE && forget == TUX_APP_NO_HANDLE);
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_TO_KEEP);
    CHECK(handle < TUX_APP_HANDLES && forget == TUX_APP_NO_HANDLE);
    uint32_t kept = handle;
    int again = dup(fd);
    CHECK_EQ(tux_app_known_name(&known, again, &handle, &forget), TUX_APP_BY_HANDLE);
    CHECK(handle == kept && forget == TUX_APP_NO_HANDLE);
    close(again);
    /* Changed, it is another one. */
    if (write(fd, "!", 1) != 1)
        abort();
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_BY_DESCRIPTOR);
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_TO_KEEP);
    CHECK(handle != kept);
    tux_app_known_forget(&known, handle);
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_BY_DESCRIPTOR);
    close(fd);
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_BY_DESCRIPTOR); /* closed */
}

static void test_the_latest_are_kept(void)
{
    enum { MORE = 3 };
    int fds[TUX_APP_HANDLES + MORE];
    memset(&known, 0, sizeof known);
    for (uint32_t i = 0; i < TUX_APP_HANDLES; i++) {
        fds[i] = new_file();
        CHECK_EQ(tux_app_known_name(&known, fds[i], &handle, &forget), TUX_APP_BY_DESCRIPTOR);
        CHECK_EQ(tux_app_known_name(&known, fds[i], &handle, &forget), TUX_APP_TO_KEEP);
    }
    CHECK_EQ(tux_app_known_name(&known, fds[0], &handle, &forget), TUX_APP_BY_HANDLE); /* the second is the oldest now */
    for (uint32_t i = 0; i < MORE; i++) {
        fds[TUX_APP_HANDLES + i] = new_file();
        CHECK_EQ(tux_app_known_name(&known, fds[TUX_APP_HANDLES + i], &handle, &forget), TUX_APP_BY_DESCRIPTOR);
        CHECK_EQ(forget, i + 1);
    }
    CHECK_EQ(tux_app_known_name(&known, fds[0], &handle, &forget), TUX_APP_BY_HANDLE);
    CHECK_EQ(tux_app_known_name(&known, fds[1], &handle, &forget), TUX_APP_BY_DESCRIPTOR);
    CHECK_EQ(tux_app_known_name(&known, fds[TUX_APP_HANDLES], &handle, &forget), TUX_APP_TO_KEEP);
    CHECK(handle == 1 && forget == TUX_APP_NO_HANDLE);
    for (uint32_t i = 0; i < TUX_APP_HANDLES + MORE; i++)
        close(fds[i]);
}

static void test_at_a_path(void)
{
    uint64_t size = 0;
    char path[] = "/tmp/tux-known-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, "known", 5) != 5)
        abort();
    memset(&known, 0, sizeof known);
    CHECK_EQ(tux_app_known_at(&known, path, &size), TUX_APP_NO_HANDLE);
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_BY_DESCRIPTOR);
    CHECK_EQ(tux_app_known_at(&known, path, &size), TUX_APP_NO_HANDLE);
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_TO_KEEP);
    CHECK_EQ(tux_app_known_at(&known, path, &size), handle);
    CHECK_EQ(size, 5);
    if (write(fd, "!", 1) != 1)
        abort();
    CHECK_EQ(tux_app_known_at(&known, path, &size), TUX_APP_NO_HANDLE);
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_BY_DESCRIPTOR);
    CHECK_EQ(tux_app_known_name(&known, fd, &handle, &forget), TUX_APP_TO_KEEP);
    CHECK_EQ(tux_app_known_at(&known, path, &size), handle);
    tux_app_known_forget(&known, handle);
    CHECK_EQ(tux_app_known_at(&known, path, &size), TUX_APP_NO_HANDLE);
    CHECK(unlink(path) == 0);
    CHECK_EQ(tux_app_known_at(&known, path, &size), TUX_APP_NO_HANDLE);
    close(fd);
}

int main(void)
{
    test_at_a_path();
    test_a_file_that_comes_again();
    test_the_latest_are_kept();
    return check_report();
}
