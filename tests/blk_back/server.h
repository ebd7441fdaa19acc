/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vhost-user half of a test's disk: one front-end after the other.
 *
 * Theory of operation.  Messages are read whole, waiting; each is a point before it is handled
 * and one after it was answered (point.h), and each answer that is a number is a store, of which a
 * hook can make another.  A ring is served when it is kicked, by blk_queue_serve(), which
 * is done when it returns, but for what is kept.
 *
 * Families of back-ends differ in what umbra may say to them, and tells them apart by what
 * they offer; so there are manners (server.c has the table), each of which offers what its family
 *does, and bears no more:
 *
 *	drain		answers GET_VRING_BASE when all is used, as pollers do (DPDK)
 *	libvhost-user	answers at once, and forgets its kick and call fds; completes what it kept
 *			into whatever ring it then knows, and hangs up if it finds nobody to call;
 *			does not heed SET_VRING_ENABLE
 *	rust-vmm	answers at once, completes what it kept silently; reads the kicks of a
 *			disabled ring, and takes nothing; never watches a second kick fd of a
 *			running ring, and hangs up when that is stopped
 *
 * Ownership: the server owns what came with messages, and the disk.
 * Threads: one.
 * Trust: it is a test's peer: what it does not understand ends the connection, with a complaint.
 * Implements: the vhost-user specification, back-end.
 */
#ifndef UMBRA_TESTS_BLK_BACK_SERVER_H
#define UMBRA_TESTS_BLK_BACK_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "disk.h"
#include "point.h"
#include "queue.h"
#include "umbra/error.h"

#define BLK_QUEUES_MOST 16u
#define BLK_MAPPINGS_MOST 64u

struct blk_manner;

struct blk_server_options {
	const struct blk_manner *manner;
	unsigned int queues;
	bool inflight, event_idx, indirect; /* offered */
	struct blk_options queue;
};

struct blk_server_queue {
	struct blk_queue queue;
	uint64_t desc, avail, used; /* of the front-end's addresses; 0: not said */
	uint16_t base;
	int kick_fd, err_fd;
	bool enabled, is_deaf; /* a second kick fd was not watched */
};

struct blk_mapping {
	uint64_t gpa, uva, size, offset;
	uint8_t *map; /* from the file's start on; NULL: none */
	bool is_gone; /* but what is kept may still have it */
};

struct blk_server {
	/* the caller's */
	struct blk_server_options options;
	const struct blk_hook *hook;
	struct blk_disk disk;
	uint64_t capacity; /* sectors, as the front-end is told */
	/* our own */
	struct blk_memory memory;
	struct blk_server_queue queues[BLK_QUEUES_MOST];
	struct blk_mapping mappings[BLK_MAPPINGS_MOST];
	unsigned int mapping_count;
	uint64_t features; /* negotiated */
	uint64_t numbers;  /* of requests taken */
	uint8_t *flights;  /* the in-flight region of all queues; NULL: none */
	size_t flights_bytes;
	uint16_t flights_queues, flights_size;
	int connection, channel; /* -1: none */
	int drains;              /* this ring's stop is answered when nothing is kept; -1: none */
};

/* NULL: there is no such manner. */
const struct blk_manner *blk_manner_find(const char *name);

void blk_server_init(struct blk_server *s);

/* A front-end is there; *@fd is consumed.  The disk has another instance from now on. */
void blk_server_accept(struct blk_server *s, int *fd);

/* It is gone: forget all that it said. */
void blk_server_forget(struct blk_server *s);

/* May a message be received?  Not while a stop waits. */
bool blk_server_listens(const struct blk_server *s);

/* Receive one message, handle and answer it.  False: the connection is of no more use; @err says
 * why, or "" if the front-end has closed it. */
bool blk_server_receive(struct blk_server *s, struct umbra_error *err);

/* The kick fd of queue @index is readable.  False: as above. */
bool blk_server_kicked(struct blk_server *s, unsigned int index, struct umbra_error *err);

/* What is kept is completed.  False: as above. */
bool blk_server_release(struct blk_server *s, struct umbra_error *err);

/* Requests that are kept. */
unsigned int blk_server_kept(const struct blk_server *s);

/* The disk has @sectors from now on, and the front-end is told. */
void blk_server_resize(struct blk_server *s, uint64_t sectors);

#endif
