/* JSON, read once from front to back: nothing is allocated, and the time is linear in the text whatever it says. What is
 * not there as asked for breaks the reader, and a broken one finds nothing any more: one look at the end is enough. */
#ifndef GATED_JSON_H
#define GATED_JSON_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *at, *end;
    int broken;
} gated_json;

/* A string as it is written between its quotes, with its escapes. */
typedef struct {
    const char *at;
    size_t length;
} gated_text;

/* Reads '{' or '['. Then, until it returns 0 at the closing bracket:
 * for (int first = 1; gated_json_more(json, ']', first); first = 0) */
void gated_json_open(gated_json *json, char bracket);
int gated_json_more(gated_json *json, char closing, int is_first);

gated_text gated_json_key(gated_json *json);
gated_text gated_json_string(gated_json *json);
int64_t gated_json_integer(gated_json *json, int64_t most); /* 0..most, without fraction or exponent */
int gated_json_truth(gated_json *json);

/* Nothing but space may follow. */
void gated_json_end(gated_json *json);

int gated_text_is(gated_text text, const char *word);

/* Which of the words it is, or -1. */
int gated_text_among(gated_text text, const char *const *words, int count);

/* 8 hexadecimal digits, lower case; 0 if it is anything else. */
int gated_text_bits(gated_text text, uint32_t *bits);

/* What an ASCII string stands for, to at least text.length bytes; returns its length, or -1 if it is not ASCII. */
ptrdiff_t gated_text_unescape(gated_text text, char *to);

#endif
