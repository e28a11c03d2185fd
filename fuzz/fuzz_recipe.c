/* SPDX-License-Identifier: MIT */
/* Fuzz what recipes are found by, and what is written by them: the extension of any path, the table, dates and tags. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipe.h"
#include "validator.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

static void check_extension(const char *path, size_t len, uint32_t route)
{
    static const char head[] = "HTTP/1.1 200 OK\r\n";
    size_t extension_len;
    const char *extension = tux_recipe_extension(path, len, &extension_len);
    MUST(extension >= path && extension + extension_len == path + len);
    MUST(memchr(extension, '/', extension_len) == NULL && memchr(extension, '.', extension_len) == NULL);
    MUST(extension_len == 0 || extension[-1] == '.');

    struct tux_recipes *recipes = tux_recipes_new();
    struct tux_wire_recipe say = {.head_len = route % sizeof head, .root = route};
    MUST(recipes != NULL);
    bool added = tux_recipes_add(recipes, route, extension, extension_len, 1, &say, (const uint8_t *)head);
    struct tux_recipe *found = tux_recipes_find(recipes, route, extension, extension_len);
    MUST(added == (extension_len <= TUX_RECIPE_KEY_BYTES) && added == (found != NULL));
    MUST(found == NULL || (found->say.root == route && memcmp(found->head, head, say.head_len) == 0));
    MUST(tux_recipes_find(recipes, route + 1, extension, extension_len) == NULL);
    tux_recipes_free(recipes);

    char key[TUX_RECIPE_KEY_BYTES];
    for (enum tux_recipe_scope scope = TUX_RECIPE_ALL; scope < TUX_RECIPE_SCOPES; scope++) {
        size_t key_len = tux_recipe_key(scope, path, len, key);
        MUST(key_len <= sizeof key && (key_len == 0 || key[0] >= '0'));
    }
}

static void check_validators(int64_t number, const void *bytes, size_t len)
{
    char date[TUX_HTTP_DATE_BYTES + 1] = "", tag[TUX_MAX_STATE_TAG_BYTES + 1] = "", expected[64];
    tux_http_date(number, date);
    MUST(strlen(date) == TUX_HTTP_DATE_BYTES && strcmp(date + 25, " GMT") == 0 && date[3] == ',');
    tag[tux_state_tag((uint64_t)number, number, tag)] = 0;
    snprintf(expected, sizeof expected, "%llx-%s%llx", (unsigned long long)number, number < 0 ? "-" : "",
             number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number);
    MUST(strcmp(tag, expected) == 0);
    char content[TUX_CONTENT_TAG_BYTES];
    tux_content_tag(bytes, len, content);
    for (size_t i = 0; i < sizeof content; i++)
        MUST(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", content[i]) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t number;
    if (size < sizeof number)
        return 0;
    memcpy(&number, data, sizeof number);
    size -= sizeof number;
    char *copy = malloc(size == 0 ? 1 : size); /* of exactly that size: a sanitizer sees any read past it */
    MUST(copy != NULL);
    memcpy(copy, data + sizeof number, size);
    check_extension(copy, size, (uint32_t)number);
    check_validators(number, copy, size);
    free(copy);
    return 0;
}
