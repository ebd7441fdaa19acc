/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Little-endian words, as types.
 *
 * Everything in a VERSION_1 virtqueue is little-endian (virtio 1.2, section
 * 2.7).  A field that lies in shared memory has one of these types, so that
 * using it without a conversion does not compile.
 */
#ifndef UMBRA_BASE_LE_H
#define UMBRA_BASE_LE_H

#include <stdint.h>

typedef struct {
	uint16_t raw;
} le16;
typedef struct {
	uint32_t raw;
} le32;
typedef struct {
	uint64_t raw;
} le64;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LE_SWAP16(v) (v)
#define LE_SWAP32(v) (v)
#define LE_SWAP64(v) (v)
#else
#define LE_SWAP16(v) __builtin_bswap16(v)
#define LE_SWAP32(v) __builtin_bswap32(v)
#define LE_SWAP64(v) __builtin_bswap64(v)
#endif

static inline le16 le16_from(uint16_t v)
{
	return (le16){ LE_SWAP16(v) };
}
static inline le32 le32_from(uint32_t v)
{
	return (le32){ LE_SWAP32(v) };
}
static inline le64 le64_from(uint64_t v)
{
	return (le64){ LE_SWAP64(v) };
}
static inline uint16_t le16_to(le16 v)
{
	return LE_SWAP16(v.raw);
}
static inline uint32_t le32_to(le32 v)
{
	return LE_SWAP32(v.raw);
}
static inline uint64_t le64_to(le64 v)
{
	return LE_SWAP64(v.raw);
}

#endif
