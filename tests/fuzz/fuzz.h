/* SPDX-License-Identifier: BSD-2-Clause */
/* What fuzz targets share: a judgement, and reading what libFuzzer gives. */
#ifndef UMBRA_TESTS_FUZZ_H
#define UMBRA_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static inline void require(bool condition)
{
	if (!condition)
		abort();
}

/* A copy that ends where the heap ends. */
static inline uint8_t *copy_of(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	require(copy);
	if (size)
		memcpy(copy, data, size);
	return copy;
}

struct input {
	const uint8_t *at;
	size_t left;
};

/* The next @size bytes, or what is left and zeros. */
static inline void take_bytes(struct input *in, void *out, size_t size)
{
	size_t n = size < in->left ? size : in->left;

	memcpy(out, in->at, n);
	memset((uint8_t *)out + n, 0, size - n);
	in->at += n;
	in->left -= n;
}

static inline uint8_t take(struct input *in)
{
	uint8_t byte;

	take_bytes(in, &byte, 1);
	return byte;
}

#endif
