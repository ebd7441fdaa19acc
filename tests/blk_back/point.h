/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The points at which a test's back-end can be made to misbehave.
 *
 * Theory of operation.  Whatever another party can see of the back-end is a store: to the ring,
 * to the in-flight region, to the disk, to a buffer of the guest, to an eventfd, to the socket.
 * Each kind of store has a name; before and after each one a hook is called, with the value
 * that is stored and the requests that it is about.  The hook may change the value (a lie),
 * say that the store is left out, or that the request is kept; or it may not return: the
 * back-end then stands still or is gone between two of its stores, which is all that a
 * survivor can tell.  Where something happens that is no store but decides what
 * others see (a chain is taken, a request is about to be executed), there is a point as well.
 *
 * Ownership: the hook is borrowed.  A hook that leaves by longjmp() leaves nothing behind that
 * blk_queue_forget() does not free.
 * Threads: one.
 */
#ifndef UMBRA_TESTS_BLK_BACK_POINT_H
#define UMBRA_TESTS_BLK_BACK_POINT_H

#include <stdbool.h>
#include <stdint.h>

/* X(kind, its name): in a comment, what its value is. */
#define BLK_STORES(X)                                                                              \
	X(MESSAGE, "message")                 /* none: a message is there, and was answered */     \
	X(ANSWER, "answer")                   /* to the socket: a message's answer, if a number */ \
	X(KICK, "kick")                       /* a kick is read; the queue's number */             \
	X(TAKE, "take")                       /* a chain is taken; its head */                     \
	X(AVAIL_EVENT, "avail-event")         /* the word of the used ring */                      \
	X(EXECUTE, "execute")                 /* a request is executed; its type */                \
	X(DISK_READ, "disk-read")             /* of one sector; its number */                      \
	X(DISK_WRITE, "disk-write")           /* of one sector; what is XORed to each byte */      \
	X(DISK_GENERATION, "disk-generation") /* of that sector */                                 \
	X(DISK_FLUSH, "disk-flush")           /* none */                                           \
	X(GUEST_DATA, "guest-data")           /* a sector, read; what is XORed to each byte */     \
	X(GUEST_STATUS, "guest-status")       /* the status byte */                                \
	X(USED_ID, "used-id")                 /* the id of a used entry */                         \
	X(USED_LEN, "used-len")               /* its length */                                     \
	X(USED_IDX, "used-idx")               /* the used index */                                 \
	X(CALL, "call")                       /* the eventfd; what is added to it */               \
	X(FLIGHT_DESC_NUM, "flight-desc-num") /* and all of these: the field of the region */      \
	X(FLIGHT_VERSION, "flight-version")                                                        \
	X(FLIGHT_COUNTER, "flight-counter")                                                        \
	X(FLIGHT_SET, "flight-set")                                                                \
	X(FLIGHT_NEXT, "flight-next")                                                              \
	X(FLIGHT_BATCH, "flight-batch")                                                            \
	X(FLIGHT_CLEAR, "flight-clear")                                                            \
	X(FLIGHT_USED_IDX, "flight-used-idx")                                                      \
	X(FLIGHT_UNDO, "flight-undo")

enum blk_store {
#define BLK_STORE_ENUM(kind, name) BLK_##kind,
	BLK_STORES(BLK_STORE_ENUM)
#undef BLK_STORE_ENUM
		BLK_STORE_COUNT
};

/* A request that was taken. */
struct blk_taken {
	uint64_t number; /* from 1, in the order in which this back-end took them */
	uint16_t head;
};

struct blk_point {
	enum blk_store store;
	bool after;
	unsigned int queue;
	uint64_t value;
	const struct blk_taken *about; /* the requests that it is about */
	unsigned int about_count;
	uint32_t message; /* the id of one that it is about; 0: none */
	uint64_t sector;  /* before EXECUTE: the first one of the request */
	bool late;        /* of the disk: a later back-end has written that sector already */
};

enum blk_verdict {
	BLK_GO_ON,
	BLK_SKIP, /* before a store: it is left out */
	BLK_KEEP, /* before EXECUTE: others go on, this one waits for blk_queue_release() */
};

struct blk_hook {
	void *opaque;
	/* May change p->value.  What it returns counts before a store. */
	enum blk_verdict (*reach)(void *opaque, struct blk_point *p);
};

/* From where a store is made. */
struct blk_place {
	const struct blk_hook *hook;
	unsigned int queue;
	const struct blk_taken *about;
	unsigned int about_count;
	uint32_t message;
	bool late;
};

const char *blk_store_name(enum blk_store store);
/* BLK_STORE_COUNT: there is no such name. */
enum blk_store blk_store_find(const char *name);

/* Before a store of *@value; false: it is left out. */
bool blk_before(const struct blk_place *at, enum blk_store store, uint64_t *value);
void blk_after(const struct blk_place *at, enum blk_store store, uint64_t value);

/* A store of @bytes bytes at @p, little-endian, with release order: what is stored before is
 * seen before. */
void blk_store(const struct blk_place *at, enum blk_store store, void *p, unsigned int bytes,
	       uint64_t value);

#endif
