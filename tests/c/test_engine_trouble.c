/* SPDX-License-Identifier: MIT */
/* When something is short, gone, late or hostile: the planner, its replies, descriptors, connections, or time (a drain). */
#include "engine_client.h"

/* -- planner and replies ---------------------------------------------------------------------------------------- */

/* A reply to a connection that is gone must never reach the one that has its slot now. */
static void test_stale_reply(void)
{
    struct kit kit;
    struct client first, second;
    kit_prepare(&kit);
    kit_start(&kit);
    for (int i = 0; i < 3; i++) {
        kit_hold(&kit, true);
        client_connect(&first, &kit);
        client_get(&first, "/echo/secret");
        CHECK(kit_becomes(&kit, "asks", 2u * (unsigned)i + 1));
        client_abort(&first);
        CHECK(kit_becomes(&kit, "connections", 0));
        client_connect(&second, &kit);
        char path[32], body[64];
        snprintf(path, sizeof path, "/echo/public-%d", i);
        snprintf(body, sizeof body, "GET %s\n", path);
        client_get(&second, path);
        CHECK(kit_becomes(&kit, "asks", 2u * (unsigned)i + 2));
        kit_hold(&kit, false);
        CHECK_ANSWER(&second, 200, body);
        CHECK_EQ(kit_stat(&kit, "stale_replies"), (unsigned)i + 1);
        client_abort(&second);
        CHECK(kit_becomes(&kit, "connections", 0));
    }
    kit_end(&kit);
}

int main(void)
{
    test_stale_reply();
    return check_report();
}
