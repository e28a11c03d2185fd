/* SPDX-License-Identifier: MIT */
/* Nanoseconds that one head takes, signature included. Not a test: prints, and never fails.
 *   cc -O2 -I src/tux/engine tests/c/bench_head.c src/tux/engine/{head,field,signature,scan,range}.c */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "head.h"

static const char browser[] = "GET /assets/index-4f1d2a.css HTTP/1.1\r\n"
                              "Host: www.example.org\r\n"
                              "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
                              "Accept: text/css,*/*;q=0.1\r\n"
                              "Accept-Language: en-US,en;q=0.5\r\n"
                              "Accept-Encoding: gzip, deflate, br, zstd\r\n"
                              "Connection: keep-alive\r\n"
                              "Referer: https://www.example.org/\r\n"
                              "Sec-Fetch-Dest: style\r\n"
                              "Sec-Fetch-Mode: no-cors\r\n"
                              "Sec-Fetch-Site: same-origin\r\n"
                              "Priority: u=2\r\n"
                              "\r\n";
static const char query[] = "GET /search?q=tux&page=2 HTTP/1.1\r\nHost: www.example.org\r\nAccept: */*\r\n\r\n";
static const char ranged[] = "GET /video.mp4 HTTP/1.1\r\nHost: www.example.org\r\nRange: bytes=0-1023\r\n\r\n";
static const char tiny[] = "GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";

static const struct tux_head_limits limits = {TUX_MAX_TARGET_BYTES, TUX_MAX_HEAD_BYTES, TUX_MAX_FIELDS};
static const struct tux_sign_rules rules = {{0x0706050403020100u, 0x0f0e0d0c0b0a0908u}, TUX_SIGNIFICANT_BY_DEFAULT};

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run(const char *what, const char *text, size_t len, size_t copies)
{
    enum { ROUNDS = 400000, REPEATS = 5 };
    static uint8_t buf[65536];
    static struct tux_head head;
    uint64_t sum = 0;
    double best = 1e9;

    for (size_t i = 0; i < copies; i++)
        memcpy(buf + i * len, text, len);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = seconds();
        for (int i = 0; i < ROUNDS; i++) {
            if (tux_head_scan(buf, len * copies, 0, &limits, &rules, (uint64_t)i, &head) != TUX_DONE) {
                printf("%s: not a head: %s\n", what, head.error_reason);
                return;
            }
            sum += head.exact.lo;
        }
        double each = (seconds() - start) / ROUNDS * 1e9;
        best = each < best ? each : best;
    }
    printf("%-22s %4zu bytes %2u fields %7.1f ns  (%016llx)\n", what, len, head.n_fields, best,
           (unsigned long long)sum);
}

int main(void)
{
    run("browser", browser, sizeof(browser) - 1, 1);
    run("browser, pipelined", browser, sizeof(browser) - 1, 4);
    run("query", query, sizeof(query) - 1, 1);
    run("range", ranged, sizeof(ranged) - 1, 1);
    run("tiny", tiny, sizeof(tiny) - 1, 1);
    return 0;
}
