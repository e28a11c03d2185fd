/* SPDX-License-Identifier: MIT */
/* Descriptors on the side socket of a link, from either end: one a message, for the record that names it. unix(7). */
#ifndef TUX_APPFD_H
#define TUX_APPFD_H

#include <stdbool.h>

/* Send a descriptor, which stays the caller's. Never waits. 0, or -errno. */
int tux_appfd_send(int side_fd, int fd);
/* The next descriptor that was sent: close-on-exec, the caller's; *fd -1: it came, but this process may not have more of them.
 * Never waits. False: there is none, or something else came. */
bool tux_appfd_take(int side_fd, int *fd);

#endif
