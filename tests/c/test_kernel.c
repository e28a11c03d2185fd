/* SPDX-License-Identifier: MIT */
/* Publishing: what becomes hot is reported with exactly the bytes that the engine sends, is kept fresh as long as its
 * checks hold, and is taken back when they do not. */
#include "kernel_kit.h"

#include "siphash.h"

#define RECHECK_NS (TUX_RECHECK_MS * UINT64_C(1000000))

/* What a test works with: an engine, what the supervisor has of it, and a connection. */
static struct kit kit;
static struct tier tier;
static struct client client;
static struct published message;

/* All is prepared: the engine runs, and the client is there. */
static void begin(void)
{
    tier_start(&tier, &kit);
    client_connect(&client, &kit);
}

/* ... "file" is "one", and a head is published at once. */
static void begin_with_a_file(void)
{
    tier_open(&tier, &kit, 1);
    kit_write_file(&kit, "file", "one", 3);
    begin();
}

static void finish(void)
{
    client_close(&client);
    tier_close(&tier, &kit);
}

/* -- keys, sums, counting --------------------------------------------------------------------------------------- */

/* The key is SipHash of the head, padded with zeros to whole words, and its length. */
static void test_keys(void)
{
    static const uint64_t secret[2] = {3, 4};
    static uint8_t head[TUX_KERNEL_MAX_HEAD_BYTES + 1];
    struct tux_kernel_key key;
    for (size_t i = 0; i < sizeof head; i++)
        head[i] = (uint8_t)(i * 7 + 1);
    static const size_t lengths[] = {1, 7, 8, 9, 15, 16, 455, 2047, 2048};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint8_t padded[TUX_KERNEL_MAX_HEAD_BYTES] = {0};
        uint64_t want[2];
        memcpy(padded, head, lengths[i]);
        tux_siphash128(secret, padded, (lengths[i] + 7) / 8 * 8, want);
        CHECK(tux_kernel_key_of_head(secret, head, lengths[i], 9, &key));
        CHECK(key.lo == want[0] && key.hi == want[1] && key.length == lengths[i] && key.listener == 9);
    }
    CHECK(!tux_kernel_key_of_head(secret, head, 0, 9, &key));
    CHECK(!tux_kernel_key_of_head(secret, head, TUX_KERNEL_MAX_HEAD_BYTES + 1, 9, &key));
}

/* The definition of RFC 1071 section 1, word by word. */
static uint32_t plain_sum(const uint8_t *bytes, size_t len)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i += 2) {
        uint16_t word = 0;
        memcpy(&word, bytes + i, len - i < 2 ? 1 : 2);
        sum += word;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

static void test_sums(void)
{
    static uint8_t bytes[TUX_KERNEL_MAX_ANSWER_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i + 255 - i);
    for (size_t len = 0; len < 70; len++)
        CHECK_EQ(tux_kernel_sum(bytes + len, len), plain_sum(bytes + len, len));
    CHECK_EQ(tux_kernel_sum(bytes, sizeof bytes), plain_sum(bytes, sizeof bytes));
    memset(bytes, 0xff, sizeof bytes);
    CHECK_EQ(tux_kernel_sum(bytes, sizeof bytes), plain_sum(bytes, sizeof bytes));
}

static void test_candidates(void)
{
    static struct tux_kernel_candidate table[TUX_KERNEL_CANDIDATES];
    struct tux_kernel_key a = {.lo = 5, .length = 1}, b = a, c = a, d = a;
    b.length = 2;
    c.listener = 1;
    d.lo = 5 + TUX_KERNEL_CANDIDATES / TUX_KERNEL_CANDIDATE_WAYS * 3; /* all four share one set */
    CHECK_EQ(tux_kernel_candidate(table, &a, 1000)->samples, 1);
    CHECK_EQ(tux_kernel_candidate(table, &a, 1001)->samples, 2);
    CHECK_EQ(tux_kernel_candidate(table, &b, 1002)->samples, 1); /* another length is another head */
    CHECK_EQ(tux_kernel_candidate(table, &a, 1003)->samples, 3);
    CHECK_EQ(tux_kernel_candidate(table, &c, 1004)->samples, 1); /* in place of b, which was not seen for longest */
    CHECK_EQ(tux_kernel_candidate(table, &a, 1005)->samples, 4);
    CHECK_EQ(tux_kernel_candidate(table, &b, 1006)->samples, 1);
    CHECK_EQ(tux_kernel_candidate(table, &d, 1007)->samples, 1); /* in place of a */
    CHECK_EQ(tux_kernel_candidate(table, &a, 1008)->samples, 1);
    /* Seldom is not hot. */
    CHECK_EQ(tux_kernel_candidate(table, &a, 1008 + TUX_KERNEL_CANDIDATE_MS)->samples, 2);
    CHECK_EQ(tux_kernel_candidate(table, &a, 1009 + 2 * TUX_KERNEL_CANDIDATE_MS)->samples, 1);
}

/* -- what is published ------------------------------------------------------------------------------------------ */

static void say(const char *request, struct answer *answer)
{
    MUST(client_say(&client, request));
    client_read_as(&client, answer, strncmp(request, "HEAD", 4) == 0);
    MUST(answer->whole);
}

/* The message carries this request, and the answer as the client got it but for its Date. */
static void check_published(const char *request, struct answer *answer)
{
    const struct tux_kernel_message *record = &message.record;
    struct tux_kernel_key key;
    char *date = strstr(answer->head, "\r\nDate: ");
    MUST(date != NULL);
    size_t head_len = strlen(answer->head);
    CHECK_EQ(record->date_offset, (size_t)(date - answer->head) + 8);
    memset(date + 8, 0, TUX_KERNEL_DATE_BYTES);
    CHECK_ROW(record->head_length == strlen(request) && strcmp((char *)message.head, request) == 0, request);
    CHECK_ROW(record->answer_length == head_len + answer->received, request);
    CHECK_ROW(memcmp(message.answer, answer->head, head_len) == 0, request);
    CHECK_ROW(memcmp(message.answer + head_len, answer->body, answer->received) == 0, request);
    CHECK_EQ(record->body_length, answer->received);
    CHECK_EQ(record->status, answer->status);
    CHECK_EQ(record->sum, plain_sum(message.answer, record->answer_length));
    CHECK(tux_kernel_key_of_head(tier.config.secret, request, strlen(request), 0, &key));
    CHECK_ROW(memcmp(&key, &record->key, sizeof key) == 0, request);
    CHECK(record->cell < TUX_KERNEL_CELLS);
    /* It is fresh for as long as the memo would have taken it, and for no more than a check holds. */
    const struct tux_kernel_cell *cell = &tier.cells[record->cell];
    CHECK_EQ(tier_load(&cell->version), record->version);
    CHECK_ROW(AWAIT(tier_load(&cell->fresh_until_ns) > tier_now_ns()), request);
    CHECK_ROW(tier_load(&cell->fresh_until_ns) <= tier_now_ns() + RECHECK_NS, request);
}

static void decide_statuses(struct kit *asked, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    char path[128];
    kit_decide_usual(asked, ask, answer);
    kit_span(ask, ask->record->path, path, sizeof path);
    if (sscanf(path, "/status/%hu", &answer->status) == 1) {
        if (answer->status == 304 || answer->status == 204) {
            answer->flags |= TUX_PLAN_NO_BODY;
            snprintf(answer->head, sizeof answer->head, "HTTP/1.1 %d Kit\r\n", answer->status);
        } else {
            snprintf(answer->head, sizeof answer->head, "HTTP/1.1 %d Kit\r\nContent-Length: %llu\r\n", answer->status,
                     (unsigned long long)answer->body_len);
        }
    }
}

#define END " HTTP/1.1\r\nHost: kit\r\n\r\n"

static void test_published(void)
{
    static const char *const requests[] = {
        "GET /echo" END,
        "GET /echo HTTP/1.1\r\nHost: kit\r\nUser-Agent: other\r\n\r\n", /* the same plan, another head */
        "HEAD /echo" END,
        "GET /echo HTTP/1.0\r\nHost: kit\r\nConnection: keep-alive\r\n\r\n",
        "HEAD /echo HTTP/1.0\r\nHost: kit\r\nConnection: Keep-Alive\r\n\r\n",
        "\r\nGET /echo/2" END, /* an empty line before is part of the head */
        "GET /m/file" END,
        "GET /m/empty" END,
        "GET /m/absent" END,
        "GET /query?a=b" END,
        "GET /status/204" END,
        "GET /status/301" END,
        "GET /status/304" END,
        "GET /status/404" END,
        "GET /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 0\r\n\r\n",
    };
    static struct answer answer;
    tier_open(&tier, &kit, 3);
    kit.decide = decide_statuses;
    char text[3001];
    for (int i = 0; i < 3000; i++)
        text[i] = (char)('a' + i % 23);
    kit_write_file(&kit, "file", text, 3000);
    kit_write_file(&kit, "empty", "", 0);
    begin();
    uint64_t count = 0, last_version = 0;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        uint64_t hits = kit_stat(&kit, "hits");
        while (kit_stat(&kit, "hits") < hits + 2)
            say(requests[i], &answer);
        CHECK_ROW(tier_is_silent(&tier), requests[i]);
        say(requests[i], &answer);
        CHECK_ROW(tier_receive_kind(&tier, &message, TUX_KERNEL_PUBLISH), requests[i]);
        check_published(requests[i], &answer);
        CHECK(message.record.version > last_version);
        last_version = message.record.version;
        CHECK_EQ(kit_stat(&kit, "published"), ++count);
        CHECK_EQ(kit_stat(&kit, "publishes"), count);
        for (int k = 0; k < 10; k++) /* once is enough */
            say(requests[i], &answer);
        CHECK_ROW(tier_is_silent(&tier), requests[i]);
    }
    CHECK_EQ(kit_stat(&kit, "retires"), 0);
    finish();
}

static void test_not_published(void)
{
    static const char *const requests[] = {
        "POST /echo" END,
        "GET /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 1\r\n\r\nx",
        "GET /f/file" END,  /* sent from a descriptor, until it is loaded */
        "GET /m/large" END, /* over max_answer_bytes */
        "GET /status/403" END,
        "GET /status/500" END,
        "GET /m/file HTTP/1.1\r\nHost: kit\r\nRange: bytes=0-1\r\n\r\n",
        "OPTIONS /echo" END,
    };
    static struct answer answer;
    tier_open(&tier, &kit, 1);
    kit.decide = decide_statuses;
    tier.config.max_answer_bytes = 2000;
    static char large[4000];
    kit_write_file(&kit, "file", "0123456789", 10);
    kit_write_file(&kit, "large", large, sizeof large);
    begin();
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        for (int k = 0; k < 4; k++)
            say(requests[i], &answer);
    static char head[TUX_KERNEL_MAX_HEAD_BYTES + 2];
    for (size_t len = TUX_KERNEL_MAX_HEAD_BYTES; len <= TUX_KERNEL_MAX_HEAD_BYTES + 1; len++) {
        static const char begin[] = "GET /echo/long HTTP/1.1\r\nHost: kit\r\nX: ", end[] = "\r\n\r\n";
        CHECK(tier_is_silent(&tier)); /* but for the last row, which is one byte shorter */
        memset(head, 'x', len);
        memcpy(head, begin, sizeof begin - 1);
        memcpy(head + len - 4, end, sizeof end);
        for (int k = 0; k < 4; k++)
            say(head, &answer);
        if (len == TUX_KERNEL_MAX_HEAD_BYTES) {
            CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_PUBLISH));
            check_published(head, &answer);
        }
    }
    CHECK(tier_is_silent(&tier));
    for (int k = 0; k < 4; k++) { /* the close form of an answer is sent once a connection */
        client_close(&client);
        client_connect(&client, &kit);
        say("GET /echo HTTP/1.1\r\nHost: kit\r\nConnection: close\r\n\r\n", &answer);
    }
    CHECK(tier_is_silent(&tier));
    CHECK_EQ(kit_stat(&kit, "publishes"), 1);
    finish();
}

/* Plans that end by time, that end the connection, or that do not say that they may be published. */
static void test_not_marked(uint32_t flags, uint32_t ttl_ms)
{
    tier_open(&tier, &kit, 1);
    kit.more_flags = flags;
    kit.ttl_ms = ttl_ms;
    tier_start(&tier, &kit);
    for (int k = 0; k < 5; k++) {
        client_connect(&client, &kit);
        client_get(&client, "/echo");
        CHECK_ANSWER(&client, 200, "GET /echo\n");
        client_close(&client);
    }
    CHECK(kit_stat(&kit, "hits") >= 3);
    CHECK(tier_is_silent(&tier));
    tier_close(&tier, &kit);
}

/* With a high threshold, hits are sampled: what is asked for often is published after about as many hits, and what is
 * asked for seldom is not. */
static void test_sampled(void)
{
    enum { HITS = 400 };
    static struct answer answer;
    tier_open(&tier, &kit, HITS);
    begin();
    uint64_t asked = 0;
    while (kit_stat(&kit, "published") == 0 && asked < 10 * HITS) {
        say("GET /echo/hot" END, &answer);
        if (asked++ % 20 == 0)
            say("GET /echo/cold" END, &answer);
    }
    CHECK(asked > HITS / 8 && asked < 4 * HITS);
    CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_PUBLISH));
    CHECK(strncmp((char *)message.head, "GET /echo/hot ", 14) == 0);
    finish();
}

/* -- how long it holds ------------------------------------------------------------------------------------------ */

static uint64_t fresh_until(uint32_t cell)
{
    return tier_load(&tier.cells[cell].fresh_until_ns);
}

/* The published answer has it, behind its blank Date perhaps. */
static bool answer_has(const char *text)
{
    return memmem(message.answer, message.record.answer_length, text, strlen(text)) != NULL;
}

/* Ask until its head is published; gives its cell. */
static uint32_t publish(const char *path)
{
    static struct answer answer;
    char request[256];
    snprintf(request, sizeof request, "GET %s" END, path);
    for (int i = 0; i < 100; i++) {
        say(request, &answer);
        if (tier_receive(&tier, &message, 0)) {
            MUST(message.record.kind == TUX_KERNEL_PUBLISH);
            return message.record.cell;
        }
    }
    MUST(!"published");
    return 0;
}

/* The answer is fresh all the time, by checks that are repeated: once a round for a plan, whatever the number of its
 * heads. */
static void test_kept_fresh(void)
{
    enum { HEADS = 20, ROUNDS = 4 };
    static struct answer answer;
    uint32_t cells[HEADS];
    tier_open(&tier, &kit, 1);
    kit_write_file(&kit, "file", "content", 7);
    begin();
    publish("/m/file");
    cells[0] = message.record.cell;
    for (int i = 1; i < HEADS; i++) {
        char request[128];
        snprintf(request, sizeof request, "GET /m/file HTTP/1.1\r\nHost: kit\r\nUser-Agent: %d\r\n\r\n", i);
        say(request, &answer);
        MUST(tier_receive_kind(&tier, &message, TUX_KERNEL_PUBLISH));
        cells[i] = message.record.cell;
    }
    CHECK_EQ(kit_stat(&kit, "published"), HEADS);
    uint64_t rechecks = kit_stat(&kit, "rechecks");
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t before = fresh_until(cells[0]);
        bool gap = false;
        while (fresh_until(cells[0]) == before) {
            gap = gap || tier_now_ns() >= before;
            poll(NULL, 0, 1);
        }
        CHECK(!gap);
        uint64_t until = fresh_until(cells[0]);
        CHECK(until > before && until <= tier_now_ns() + RECHECK_NS);
        for (int i = 1; i < HEADS; i++)
            CHECK(AWAIT(fresh_until(cells[i]) >= until));
    }
    CHECK(kit_stat(&kit, "rechecks") - rechecks <= ROUNDS + 1);
    CHECK_EQ(kit_stat(&kit, "retires"), 0);
    finish();
}

/* A file that changes: its answer is not fresh any more within a second, all its heads are retired, and no others.
 * Asked for again, it is published anew, under the same key and another version. */
static void test_changed(void)
{
    tier_open(&tier, &kit, 2);
    kit_write_file(&kit, "file", "one", 3);
    kit_write_file(&kit, "other", "other", 5);
    begin();
    uint32_t other = publish("/m/other");
    for (int round = 0; round < 3; round++) {
        char content[16];
        snprintf(content, sizeof content, "content %d", round);
        kit_write_file(&kit, "file", content, 9);
        uint32_t cell = publish("/m/file");
        struct tux_kernel_message first = message.record;
        CHECK(answer_has(content));
        uint32_t second = publish("/m/file?other=head");
        uint64_t changed_ns = tier_now_ns();
        kit_write_file(&kit, "file", "changed", 7);
        uint32_t seen = 0;
        while (seen < 2 && tier_receive(&tier, &message, KIT_LIMIT_MS)) {
            CHECK_EQ(message.record.kind, TUX_KERNEL_RETIRE);
            CHECK_EQ(message.size, sizeof message.record);
            CHECK(message.record.cell == cell || message.record.cell == second);
            if (message.record.cell == cell) {
                CHECK_EQ(message.record.version, first.version);
                CHECK(memcmp(&message.record.key, &first.key, sizeof first.key) == 0);
            }
            CHECK_EQ(fresh_until(message.record.cell), 0);
            seen++;
        }
        CHECK_EQ(seen, 2);
        CHECK(tier_now_ns() - changed_ns < UINT64_C(1000000000));
        CHECK(kit_becomes(&kit, "published", 1));
        CHECK(fresh_until(other) > tier_now_ns());
        publish("/m/file");
        CHECK(answer_has("changed"));
        CHECK(memcmp(&message.record.key, &first.key, sizeof first.key) == 0);
        CHECK(message.record.version > first.version);
        CHECK_EQ(kit_stat(&kit, "retires"), 3u * (unsigned)round + 2);
        kit_write_file(&kit, "file", "again", 5);
        CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_RETIRE));
        CHECK(kit_becomes(&kit, "retires", 3u * (unsigned)round + 3));
    }
    finish();
}

/* What is found changed is not replayed from the memo either, for a request that was let through. */
static void test_changed_in_the_memo(void)
{
    begin_with_a_file();
    for (int round = 0; round < 3; round++) {
        uint32_t cell = publish("/m/file");
        char content[16];
        snprintf(content, sizeof content, "%d", round);
        kit_write_file(&kit, "file", content, strlen(content));
        static struct answer answer;
        do
            say("GET /m/file" END, &answer);
        while (strcmp(answer.body, content) != 0);
        CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_RETIRE));
        CHECK_EQ(fresh_until(cell), 0);
    }
    finish();
}

/* A look that may block is the helper thread's; serving does not wait for it. */
#define FD_OF_CHECK 78

static void decide_by_descriptor(struct kit *asked, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    kit_decide_usual(asked, ask, answer);
    answer->checked = true;
    answer->root = 1;
    snprintf(answer->path, sizeof answer->path, "self/fd/%d", FD_OF_CHECK);
    tux_files_look(asked->roots, 1, answer->path, strlen(answer->path), kit_now_ms(), false, &answer->found);
}

static void test_by_the_helper(void)
{
    tier_open(&tier, &kit, 1);
    kit.decide = decide_by_descriptor;
    begin();
    publish("/echo"); /* the first replay is the helper's, and not looked at for publishing */
    uint32_t cell = message.record.cell;
    for (int round = 0; round < 3; round++) {
        uint64_t before = fresh_until(cell);
        CHECK(AWAIT(fresh_until(cell) > before));
        CHECK(fresh_until(cell) <= tier_now_ns() + RECHECK_NS);
    }
    MUST(dup2(kit.control, FD_OF_CHECK) == FD_OF_CHECK);
    CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_RETIRE));
    CHECK_EQ(fresh_until(cell), 0);
    CHECK(kit_becomes(&kit, "published", 0));
    close(FD_OF_CHECK);
    finish();
}

/* What nobody asks for is retired after a while; what the programs have used stays. */
static void test_unused(void)
{
    tier_open(&tier, &kit, 1);
    tier.config.unused_ms = 900;
    begin();
    uint32_t used = publish("/echo/used");
    uint64_t begun = tier_now_ns();
    uint32_t unused = publish("/echo/unused");
    bool came = false;
    while (!came && tier_now_ns() - begun < KIT_LIMIT_MS * UINT64_C(1000000)) {
        __atomic_store_n(&tier.cells[used].used_ns, tier_now_ns(), __ATOMIC_RELAXED);
        came = tier_receive(&tier, &message, 1);
    }
    CHECK(came && message.record.kind == TUX_KERNEL_RETIRE && message.record.cell == unused);
    CHECK(tier_now_ns() - begun >= 900 * UINT64_C(1000000));
    CHECK_EQ(fresh_until(unused), 0);
    CHECK(fresh_until(used) > tier_now_ns());
    CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_RETIRE)); /* used no more */
    CHECK_EQ(message.record.cell, used);
    CHECK(kit_becomes(&kit, "published", 0));
    CHECK(kit_rests(&kit)); /* and no round goes on for nothing */
    finish();
}

/* -- when the supervisor does not read -------------------------------------------------------------------------- */

static void fill_queue(int fd)
{
    static const char bytes[16384];
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    while (send(fd, bytes, 1, MSG_DONTWAIT) > 0) {
    }
    MUST(errno == EAGAIN);
}

/* Take what fill_queue put there; what the engine says as soon as there is room stays. */
static void empty_queue(void)
{
    static char bytes[16384];
    for (;;) {
        ssize_t n = recv(tier.supervisor, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK);
        MUST(n > 0 || errno == EAGAIN);
        if (n != 1 && n != sizeof bytes)
            return;
        MUST(recv(tier.supervisor, bytes, sizeof bytes, MSG_DONTWAIT) == n);
    }
}

/* Nothing is published that the supervisor was not told, and no retirement is forgotten. */
static void test_full_queue(void)
{
    static struct answer answer;
    tier_open(&tier, &kit, 1);
    int queue = dup(tier.config.message_fd);
    kit_write_file(&kit, "file", "one", 3);
    begin();
    uint32_t cell = publish("/m/file");
    uint64_t version = message.record.version;
    fill_queue(queue);
    for (int i = 0; i < 20; i++)
        say("GET /echo" END, &answer);
    CHECK_EQ(kit_stat(&kit, "publishes"), 1);
    kit_write_file(&kit, "file", "two", 3);
    CHECK(kit_becomes(&kit, "published", 0));
    CHECK_EQ(fresh_until(cell), 0);
    uint64_t end = kit_now_ms() + 2 * TUX_KERNEL_RECHECK_MS;
    while (kit_now_ms() < end) /* its key is the supervisor's still: nothing else is published under it */
        say("GET /m/file" END, &answer);
    CHECK_EQ(kit_stat(&kit, "retires"), 0);
    CHECK_EQ(kit_stat(&kit, "publishes"), 1);
    empty_queue();
    CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_RETIRE));
    CHECK(message.record.cell == cell && message.record.version == version);
    CHECK_EQ(message.size, sizeof message.record);
    publish("/m/file");
    CHECK(answer_has("two"));
    say("GET /echo" END, &answer);
    CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_PUBLISH));
    close(queue);
    finish();
}

/* The supervisor is gone: serving goes on. */
static void test_no_supervisor(void)
{
    static struct answer answer;
    begin_with_a_file();
    uint32_t cell = publish("/m/file");
    shutdown(tier.supervisor, SHUT_RDWR);
    kit_write_file(&kit, "file", "two", 3);
    CHECK(AWAIT(fresh_until(cell) == 0));
    for (int i = 0; i < 20; i++)
        say("GET /echo" END, &answer);
    CHECK_EQ(kit_stat(&kit, "publishes"), 1);
    CHECK(kit_rests(&kit));
    finish();
}

/* -- many, and the end ------------------------------------------------------------------------------------------ */

/* More than one turn's worth of checks: every one is repeated in time, and requests are served meanwhile. All cells in
 * use: nothing more is published; at the drain, all are retired. */
static void test_many(void)
{
    static struct answer answer;
    begin_with_a_file();
    char path[64], request[256];
    for (uint32_t i = 0; i < TUX_KERNEL_CELLS; i++) { /* 500 plans with a check each, some with many heads */
        if (i < 500) {
            snprintf(path, sizeof path, "m-%u", i);
            kit_write_file(&kit, path, "x", 1);
            snprintf(path, sizeof path, "/m/m-%u", i);
        } else {
            snprintf(path, sizeof path, "/m/m-%u?%u", i % 10, i);
        }
        snprintf(request, sizeof request, "GET %s" END, path);
        uint64_t publishes = kit_stat(&kit, "publishes");
        while (kit_stat(&kit, "publishes") == publishes)
            say(request, &answer);
        MUST(tier_receive_kind(&tier, &message, TUX_KERNEL_PUBLISH));
    }
    CHECK_EQ(kit_stat(&kit, "published"), TUX_KERNEL_CELLS);
    for (int k = 0; k < 5; k++)
        say("GET /echo/one-too-many" END, &answer);
    CHECK(tier_is_silent(&tier));
    uint32_t stale = 0, looks = 0;
    for (uint64_t end = kit_now_ms() + 2000; kit_now_ms() < end || looks < 20; looks++) {
        uint64_t begun = kit_now_ms();
        say("GET /echo" END, &answer);
        uint64_t now = tier_now_ns();
        if (kit_now_ms() - begun < 50) /* else the machine has no time for the engine */
            for (uint32_t i = 0; i < TUX_KERNEL_CELLS; i++)
                stale += fresh_until(i) < now;
    }
    CHECK_EQ(stale, 0);
    CHECK_EQ(kit_stat(&kit, "retires"), 0);
    client_close(&client);
    tux_engine_drain(kit.engine, KIT_LIMIT_MS);
    kit_join(&kit);
    for (uint32_t i = 0; i < TUX_KERNEL_CELLS; i++)
        MUST(fresh_until(i) == 0);
    CHECK_EQ(kit_stat(&kit, "published"), 0);
    tier_close(&tier, &kit);
}

static void test_drain(void)
{
    struct client waits;
    tier_open(&tier, &kit, 1);
    begin();
    client_connect(&waits, &kit);
    uint32_t cell = publish("/echo");
    kit_hold(&kit, true);
    client_get(&waits, "/echo/1");
    CHECK(kit_becomes(&kit, "asks", 3));
    tux_engine_drain(kit.engine, KIT_LIMIT_MS);
    CHECK(tier_receive_kind(&tier, &message, TUX_KERNEL_RETIRE)); /* while the connection still waits */
    CHECK_EQ(message.record.cell, cell);
    CHECK_EQ(fresh_until(cell), 0);
    kit_hold(&kit, false);
    CHECK_ANSWER(&waits, 200, "GET /echo/1\n");
    CHECK(client_at_end(&client, true));
    client_close(&client);
    client_close(&waits);
    kit_join(&kit);
    CHECK(tier_is_silent(&tier));
    tier_close(&tier, &kit);
}

/* What was left in the maps by somebody else says nothing. */
static void test_cleared(void)
{
    tier_open(&tier, &kit, 1);
    memset(tier.slots, 1, SLOTS_BYTES);
    memset(tier.cells, 1, CELLS_BYTES);
    tier_start(&tier, &kit);
    CHECK(tier_slot(&tier) == NULL);
    CHECK_EQ(fresh_until(0), 0);
    CHECK_EQ(fresh_until(TUX_KERNEL_CELLS - 1), 0);
    tier_close(&tier, &kit);
}

static void test_refused(void)
{
    static const uint32_t unix_listener[] = {1}, none[] = {7};
    for (int i = 0; i < 4; i++) {
        tier_open(&tier, &kit, 1);
        if (i == 0)
            tier.config.hits = 0;
        else if (i == 1)
            tier.config.listeners = unix_listener;
        else if (i == 2)
            tier.config.listeners = none;
        else
            MUST(dup2(kit.control, tier.config.slots_fd) >= 0); /* an eventfd cannot be mapped */
        int fds[] = {tier.config.slots_fd, tier.config.cells_fd, tier.config.message_fd};
        static const int errors[] = {EINVAL, ENOENT, ENOENT, ENODEV};
        kit_create(&kit);
        CHECK_EQ(-tux_engine_kernel(kit.engine, &tier.config), errors[i]);
        for (int k = 0; k < 3; k++)
            CHECK(fcntl(fds[k], F_GETFD) < 0); /* taken and closed in any case */
        MUST(pthread_create(&kit.engine_thread, NULL, kit_run, &kit) == 0);
        tier_close(&tier, &kit);
    }
}

int main(void)
{
    test_keys();
    test_sums();
    test_candidates();
    test_published();
    test_not_published();
    test_not_marked(0, KIT_FOREVER);
    test_not_marked(TUX_PLAN_PUBLISH | TUX_PLAN_CLOSE, KIT_FOREVER);
    test_not_marked(TUX_PLAN_PUBLISH, 60000);
    test_sampled();
    test_kept_fresh();
    test_changed();
    test_changed_in_the_memo();
    test_by_the_helper();
    test_unused();
    test_full_queue();
    test_no_supervisor();
    test_many();
    test_drain();
    test_cleared();
    test_refused();
    return check_report();
}
