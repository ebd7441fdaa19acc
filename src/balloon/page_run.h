/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page-bitmap protocol's messages: runs of guest pages, as bytes and back.
 *
 * One message describes any number of runs of 4 KiB pages in 64-bit
 * little-endian words: a header, then records, each an extent (a start and a
 * power-of-two length) or a bitmap of up to 448 pages of one size.  The format is
 * docs/balloon-protocol.md; this file is its only implementation, compiled into
 * the device and into the guest's driver: freestanding C, no allocation, no
 * libc, bounded work.
 *
 * Encoding never fails but for room: what does not fit any more is left to the
 * next message.  Decoding trusts no number in the message.
 *
 * Ownership: every buffer and every array is the caller's.  Threads: a struct
 * belongs to one thread at a time; there is no other state.  Context: any, also
 * atomic and out of memory; nothing here blocks.  Trust: a message is hostile,
 * and the decoder reads it more than once, so it gets a private copy that nobody
 * else can write.  What it yields lies below 2^52 pages and is not yet known to
 * be guest memory: that is for the device to check.
 *
 *	driver				device
 *	page_run_encode_begin		page_run_decode_begin
 *	page_run_encode, ...		page_run_decode_next, ... (checks, collects)
 *	page_run_encode_finish		page_runs_merge
 *	page_run_status_load		page_run_status_store
 */
#ifndef UMBRA_BALLOON_PAGE_RUN_H
#define UMBRA_BALLOON_PAGE_RUN_H

#ifdef __KERNEL__
#include <linux/types.h>
typedef u64 page_run_u64;
typedef u32 page_run_u32;
typedef u8 page_run_u8;
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
typedef uint64_t page_run_u64;
typedef uint32_t page_run_u32;
typedef uint8_t page_run_u8;
#endif

#define PAGE_RUN_FEATURE_BIT 50u /* VIRTIO_BALLOON_F_PAGE_BITMAP */

#define PAGE_RUN_SHIFT 12u /* a pfn counts pages of 4 KiB, whatever the guest's page size */
#define PAGE_RUN_PFN_BITS 52u
#define PAGE_RUN_PFN_END (1ull << PAGE_RUN_PFN_BITS) /* the first pfn that is none */

#define PAGE_RUN_HEADER_BYTES 8u
#define PAGE_RUN_BITMAP_WORDS_MAX 7u
#define PAGE_RUN_BITMAP_PAGES_MAX 448u
#define PAGE_RUN_RECORD_RUNS_MAX 224u /* every other bit of the longest bitmap */
#define PAGE_RUN_STATUS_BYTES 16u

/* A header and one extent: less room than this can never send anything. */
#define PAGE_RUN_MESSAGE_BYTES_MIN 16u
/* The longest message, header included, that every device must take. */
#define PAGE_RUN_MESSAGE_BYTES_MAX 65536u

/* [pfn, pfn + count) in pages of 4 KiB. */
struct page_run {
	page_run_u64 pfn;
	page_run_u64 count; /* > 0 */
};

/* ---- status ---------------------------------------------------------------- */

/* What the device answers.  On the wire: never renumber. */
enum page_run_code {
	PAGE_RUN_OK = 0,
	PAGE_RUN_BAD_HEADER = 1,    /* cmd, flag or id is unknown; no record was read */
	PAGE_RUN_BAD_LENGTH = 2,    /* data_len is not what the buffer holds; no record was read */
	PAGE_RUN_BAD_RECORD = 3,    /* a record breaks the format */
	PAGE_RUN_OUTSIDE = 4,       /* a record names what is not this guest's memory */
	PAGE_RUN_NOT_DISCARDED = 5, /* the host failed to take the memory */
};

struct page_run_status {
	page_run_u64 pages; /* of 4 KiB, in the records that were applied */
	page_run_u32 code;  /* enum page_run_code, but a device may say anything */
	/* All records before this one were applied.  With PAGE_RUN_OK: how many
	 * records the message has. */
	page_run_u32 record;
};

/* The status as it lies in the first PAGE_RUN_STATUS_BYTES of the device-writable
 * part of a buffer. */
void page_run_status_store(page_run_u8 *bytes, struct page_run_status status);
struct page_run_status page_run_status_load(const page_run_u8 *bytes);

/* ---- encoder (driver) ------------------------------------------------------ */

/* Private to page_run.c, but for the counters that end with "out". */
struct page_run_encoder {
	page_run_u8 *message;
	page_run_u32 size, used; /* bytes of @message; @used counts the header */
	struct page_run pending; /* grows while neighbours come; count 0: none */

	/* The record in the making: @units pages of 2^@shift bytes from @base,
	 * a bit for each.  @units 0: none. */
	page_run_u64 base;
	page_run_u64 bits[PAGE_RUN_BITMAP_WORDS_MAX];
	page_run_u32 shift, units;
	page_run_u32 extents; /* what the same pages cost as extents */

	page_run_u32 records; /* out: in the message, complete after finish */
	page_run_u64 pages;   /* out: of 4 KiB, accepted so far */
};

/*
 * Start a message in @message, @size bytes (at least PAGE_RUN_MESSAGE_BYTES_MIN;
 * what is beyond PAGE_RUN_MESSAGE_BYTES_MAX is left unused; any alignment).
 */
void page_run_encode_begin(struct page_run_encoder *e, void *message, page_run_u32 size);

/*
 * Add @run; its count is below 2^52 and its end at most 2^52.  Returns how many
 * pages from its front are in this message.  Less than run.count means that the
 * message is full: finish it, and put the rest into the next.  An empty message
 * takes at least one page.
 *
 * All of it is taken, in any order of the runs, as long as one word for the header and
 * one for each bit that is set in the counts of all runs fit into the buffer.
 *
 * Runs that come in increasing order are packed best; neighbours that come one by
 * one, upwards or downwards, become one run.  Any other order is right, too.
 */
page_run_u64 page_run_encode(struct page_run_encoder *e, struct page_run run)
	__attribute__((warn_unused_result));

/*
 * Complete the message; returns its length in bytes, header included (only the
 * header if nothing was added: nothing to send then).  Next is
 * page_run_encode_begin().  A device that applied everything answers
 * {e->pages, PAGE_RUN_OK, e->records}.
 */
page_run_u32 page_run_encode_finish(struct page_run_encoder *e) __attribute__((warn_unused_result));

/* ---- decoder (device) ------------------------------------------------------ */

/* Why a record was refused: for logs and counters.  On the wire all of them are
 * PAGE_RUN_BAD_RECORD. */
enum page_run_refusal {
	PAGE_RUN_ACCEPTED,
	PAGE_RUN_PAGE_SHIFT,    /* pages smaller than 4 KiB */
	PAGE_RUN_BEYOND,        /* reaches past 2^52 pages */
	PAGE_RUN_BITMAP_LENGTH, /* a bitmap that is not whole words; ends the message */
	PAGE_RUN_TRUNCATED,     /* a bitmap that goes on past data_len; ends the message */
};

struct page_run_record {
	page_run_u32 index; /* in the message, from 0 */
	enum page_run_refusal refusal;
	page_run_u64 pages; /* of 4 KiB; 0 if refused, or if the bitmap is empty */
	page_run_u32 runs;  /* how many runs were written */
};

/* Private to page_run.c, but for @records. */
struct page_run_decoder {
	const page_run_u8 *at, *end;
	page_run_u32 records; /* out: yielded so far; all that there are when next says false */
};

/*
 * Judge the header of the message in @message, @length bytes (all of the
 * device-readable part of the buffer; any alignment; any length, also 0), which
 * must stay untouched while it is decoded.  Returns PAGE_RUN_OK, BAD_HEADER or
 * BAD_LENGTH; if it is not PAGE_RUN_OK, there are no records.
 */
enum page_run_code page_run_decode_begin(struct page_run_decoder *d, const void *message,
					 size_t length) __attribute__((warn_unused_result));

/*
 * Take the next record into *@record and its runs, in increasing order and with
 * gaps between them, into @runs, which has room for PAGE_RUN_RECORD_RUNS_MAX.
 * False: there is none.
 *
 * A refused record is yielded, too, with its reason and without runs.  What
 * follows is yielded as long as it can be found.  A record is all or nothing: the
 * device that finds one of its runs outside guest memory drops all of them.
 */
bool page_run_decode_next(struct page_run_decoder *d, struct page_run *runs,
			  struct page_run_record *record) __attribute__((warn_unused_result));

/* ---- sets of runs (device) ------------------------------------------------- */

/*
 * Sort @runs by pfn and merge neighbours and overlaps, in place.  Returns how many
 * are left: in increasing order, with gaps.  O(n log n) at worst, O(n) if they come
 * in order.
 */
page_run_u32 page_runs_merge(struct page_run *runs, page_run_u32 count)
	__attribute__((warn_unused_result));

/*
 * The stock protocol: @count 32-bit little-endian pfns at @pfns (any alignment)
 * become runs in @runs, which has room for @count.  Returns how many; those that
 * came side by side are one already, page_runs_merge() does the rest.
 */
page_run_u32 page_runs_from_pfns(struct page_run *runs, const void *pfns, page_run_u32 count)
	__attribute__((warn_unused_result));

#endif
