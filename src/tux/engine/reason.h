/* SPDX-License-Identifier: MIT */
/* The usual reason phrases (RFC 9110 section 15, RFC 8297, and the registry). */
#ifndef TUX_REASON_H
#define TUX_REASON_H

#include <stdint.h>

const char *tux_reason(uint16_t status); /* "" for a status that is not in the table */

#endif
