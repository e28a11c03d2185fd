/* SPDX-License-Identifier: MIT */
#ifndef TUX_SPAN_H
#define TUX_SPAN_H

#include <stdint.h>

/* A piece of a buffer, as an offset and a length in bytes: it stays true when the buffer moves, and it may be
 * written into a ring that another process reads. */
struct tux_span {
    uint32_t off;
    uint32_t len;
};

/* What every parser of the engine returns: see enum names. MORE and MALFORMED leave the output undefined, except
 * where a parser's header says otherwise. */
enum tux_outcome {
    TUX_DONE,      /* complete and correct */
    TUX_MORE,      /* correct so far, incomplete */
    TUX_MALFORMED, /* can never become correct */
};

#endif
