/* SPDX-License-Identifier: MIT */
/* Descriptors on the side socket of a link, from either end: one a message, for the record that names it. unix(7). */
#ifndef TUX_APPFD_H
#define TUX_APPFD_H

/* Send a descriptor, which stays the caller's. Never waits. 0, or -errno. */
int tux_appfd_send(int side_fd, int fd);
/* The next descriptor that was sent, close-on-exec, the caller's; -1: there is none, or something else came. Never waits. */
int tux_appfd_take(int side_fd);

#endif
