/* SPDX-License-Identifier: MIT */
/*
 * soak: takes the processor time that nobody else wants, and counts it.
 *
 * `soak FILE`: one thread per processor, pinned there, of the scheduling class SCHED_IDLE, turns a loop and counts its
 * rounds in FILE, which whoever measures has mapped, too: reading the counts wakes nobody up. Everything else that runs
 * on a processor, interrupts included, takes rounds away. Ends with its standard input.
 *
 * `soak --burn US PERIOD_US SECONDS`: a known load to check it with: US microseconds of CPU at the beginning of each
 * period. Prints the CPU time that it used, in nanoseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    STRIDE = 128,     /* bytes from one count to the next: two cache lines, as they are fetched in pairs */
    CPUS_MAX = 1024,
    CHAIN = 64,       /* multiplications in a round: about 0.1 us */
};

#define NS_PER_S 1000000000LL

static void die(const char *what)
{
    fprintf(stderr, "soak: %s: %s\n", what, strerror(errno));
    exit(2);
}

typedef struct {
    int cpu;
    uint64_t *count;
} soaker_t;

/* Each multiplication waits for the one before: this leaves a processor's twin (SMT) nearly all that they share, and
 * touches one line of memory. */
static void *turn(void *argument)
{
    soaker_t *soaker = argument;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(soaker->cpu, &here);
    if (sched_setaffinity(0, sizeof here, &here))
        die("sched_setaffinity");
    struct sched_param none = {0};
    if (sched_setscheduler(0, SCHED_IDLE, &none))
        die("sched_setscheduler");
    uint64_t x = 1;
    for (uint64_t rounds = 1;; rounds++) {
        for (int i = 0; i < CHAIN; i++) {
            x = x * 0x9e3779b97f4a7c15ull + 1;
            __asm__ volatile("" : "+r"(x)); /* the compiler does not foresee it */
        }
        __atomic_store_n(soaker->count, rounds, __ATOMIC_RELAXED);
    }
    return NULL;
}

static int soak(const char *path)
{
    if (prctl(PR_SET_PDEATHSIG, 9))
        die("prctl");
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        die("sched_getaffinity");
    int cpus = CPU_COUNT(&allowed);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)cpus * STRIDE))
        die(path);
    uint8_t *area = mmap(NULL, (size_t)cpus * STRIDE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (area == MAP_FAILED)
        die("mmap");
    static soaker_t soakers[CPUS_MAX];
    int made = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && made < CPUS_MAX; cpu++) {
        pthread_t thread;
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        soakers[made] = (soaker_t){cpu, (uint64_t *)(void *)(area + (size_t)made * STRIDE)};
        errno = pthread_create(&thread, NULL, turn, &soakers[made]);
        if (errno)
            die("pthread_create");
        made++;
    }
    printf("%d\n", made);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

static int burn(int64_t busy, int64_t period, double seconds)
{
    int64_t due = clock_ns(CLOCK_MONOTONIC), end = due + (int64_t)(seconds * NS_PER_S);
    int64_t from = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int64_t left = busy; due < end; left += busy) { /* in all, so that one burst's excess is the next one's loss */
        while (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - from < left)
            ;
        due += period;
        struct timespec until = {due / NS_PER_S, due % NS_PER_S};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
            ;
    }
    printf("%lld\n", (long long)clock_ns(CLOCK_PROCESS_CPUTIME_ID));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "--burn"))
        return burn(atoll(argv[2]) * 1000, atoll(argv[3]) * 1000, atof(argv[4]));
    if (argc != 2) {
        fprintf(stderr, "usage: soak FILE | soak --burn US PERIOD_US SECONDS\n");
        return 2;
    }
    return soak(argv[1]);
}
