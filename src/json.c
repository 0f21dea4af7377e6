#include "json.h"

#include <string.h>

static int next_is(const gated_json *json, char c)
{
    return json->at < json->end && *json->at == c;
}

static void skip_space(gated_json *json)
{
    while (next_is(json, ' ') || next_is(json, '\n') || next_is(json, '\r') || next_is(json, '\t'))
        json->at++;
}

static int break_off(gated_json *json)
{
    json->broken = 1;
    json->at = json->end;
    return 0;
}

static int take(gated_json *json, char c)
{
    skip_space(json);
    if (!next_is(json, c))
        return break_off(json);
    json->at++;
    return 1;
}

void gated_json_open(gated_json *json, char bracket)
{
    take(json, bracket);
}

int gated_json_more(gated_json *json, char closing, int is_first)
{
    skip_space(json);
    if (json->broken)
        return 0;
    if (next_is(json, closing)) {
        json->at++;
        return 0;
    }
    return is_first || take(json, ',');
}

void gated_json_end(gated_json *json)
{
    skip_space(json);
    if (json->at < json->end)
        break_off(json);
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Length of what stands at `at`: a character, or an escape. 0 if it may not stand in a string. */
static int character_length(const char *at, const char *end)
{
    if ((unsigned char)*at < 0x20)
        return 0;
    if (*at != '\\')
        return 1;
    if (end - at < 2 || !at[1] || !strchr("\"\\/bfnrtu", at[1]))
        return 0;
    if (at[1] != 'u')
        return 2;
    for (int i = 2; i < 6; i++)
        if (end - at <= i || hex_digit(at[i]) < 0)
            return 0;
    return 6;
}

gated_text gated_json_string(gated_json *json)
{
    const gated_text nothing = {"", 0};
    if (!take(json, '"'))
        return nothing;
    const char *start = json->at;
    while (json->at < json->end && *json->at != '"') {
        const int length = character_length(json->at, json->end);
        if (!length) {
            break_off(json);
            return nothing;
        }
        json->at += length;
    }
    const gated_text text = {start, json->at - start};
    return take(json, '"') ? text : nothing;
}

gated_text gated_json_key(gated_json *json)
{
    const gated_text key = gated_json_string(json);
    take(json, ':');
    return key;
}

int64_t gated_json_integer(gated_json *json, int64_t most)
{
    skip_space(json);
    const char *start = json->at;
    int64_t value = 0;
    for (; json->at < json->end && is_digit(*json->at); json->at++) {
        const int digit = *json->at - '0';
        if (value > (most - digit) / 10)
            return break_off(json);
        value = 10 * value + digit;
    }
    if (json->at == start || (*start == '0' && json->at - start > 1))
        return break_off(json);
    return value;
}

int gated_json_truth(gated_json *json)
{
    skip_space(json);
    const size_t left = json->end - json->at;
    if (left >= 4 && !memcmp(json->at, "true", 4)) {
        json->at += 4;
        return 1;
    }
    if (left < 5 || memcmp(json->at, "false", 5))
        return break_off(json);
    json->at += 5;
    return 0;
}

int gated_text_is(gated_text text, const char *word)
{
    return text.length == strlen(word) && !memcmp(text.at, word, text.length);
}

int gated_text_among(gated_text text, const char *const *words, int count)
{
    for (int i = 0; i < count; i++)
        if (gated_text_is(text, words[i]))
            return i;
    return -1;
}

int gated_text_bits(gated_text text, uint32_t *bits)
{
    uint32_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        const char c = text.at[i];
        if (hex_digit(c) < 0 || (c >= 'A' && c <= 'F'))
            return 0;
        value = value << 4 | (uint32_t)hex_digit(c);
    }
    *bits = value;
    return text.length == 8;
}

/* Of an escape; -1 if it is not ASCII. */
static int escaped(const char *at)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    if (at[1] == 'u') {
        const int code = hex_digit(at[2]) << 12 | hex_digit(at[3]) << 8 | hex_digit(at[4]) << 4 | hex_digit(at[5]);
        return code < 0x80 ? code : -1;
    }
    const char *letter = strchr(letters, at[1]);
    return letter ? meanings[letter - letters] : at[1];
}

ptrdiff_t gated_text_unescape(gated_text text, char *to)
{
    const char *at = text.at, *end = at + text.length;
    ptrdiff_t length = 0;
    while (at < end) {
        const int c = *at == '\\' ? escaped(at) : (unsigned char)*at;
        if (c < 0 || c >= 0x80)
            return -1;
        to[length++] = (char)c;
        at += character_length(at, end);
    }
    return length;
}
