/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra/balloon.h - a virtio balloon device outside the VMM.
 *
 * A balloon listens on a vhost-user socket for a front-end (a VMM).  Told how
 * much memory the guest shall have, it asks the guest's driver for the rest, and
 * gives the pages that the driver hands over back to the host.  It understands
 * the stock protocol and the page-bitmap protocol, in which one message describes
 * gigabytes (docs/balloon-protocol.md).
 *
 *	struct umbra_balloon *balloon;
 *	struct umbra_error err;
 *
 *	if (umbra_balloon_create(&config, &balloon, &err))
 *		errx(1, "%s", err.text);
 *	umbra_balloon_run(balloon, &err);	// returns after _stop()
 *	umbra_balloon_destroy(&balloon);
 *
 * Threads: _run() takes the calling thread for the vhost-user messages and starts
 * another for the rings.  _stop(), _set_target(), _query() and _regions() may be called
 * from any thread at any time between _create() and _destroy(); _stop() also from a
 * signal handler.
 *
 * Implements: virtio 1.2, section 5.5 (without free page hinting); the vhost-user
 * protocol, the back-end's side; virtio 1.2 split rings.
 */
#ifndef UMBRA_BALLOON_H
#define UMBRA_BALLOON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"
#include "umbra/sized.h"
#include "umbra/socket.h"

#ifdef __cplusplus
extern "C" {
#endif

#define UMBRA_BALLOON_ALL_MEMORY UINT64_MAX /* to be kept: an empty balloon */

/* What shall become of the guest's memory. */
struct umbra_balloon_target {
	uint64_t bytes;
	bool take;  /* are to be taken from the guest; else they are what it shall keep */
	bool force; /* also below the floor */
};

/* What a target is measured against, and `memory_bytes` is: */
enum umbra_balloon_base {
	UMBRA_BALLOON_BASE_NONE,   /* nothing: no guest is there */
	UMBRA_BALLOON_BASE_TABLE,  /* the regions of the memory table that may be touched */
	UMBRA_BALLOON_BASE_GUEST,  /* what the guest says that it has, in its statistics */
	UMBRA_BALLOON_BASE_OPTION, /* what the config says */
};

/* "none", "table", "guest", "option". */
UMBRA_API const char *umbra_balloon_base_name(enum umbra_balloon_base base);

/* Guest-physical addresses [start, end). */
struct umbra_balloon_range {
	uint64_t start, end;
};
#define UMBRA_BALLOON_RANGES_MAX 16u

enum umbra_balloon_state {
	UMBRA_BALLOON_WAITING,     /* for a front-end */
	UMBRA_BALLOON_NEGOTIATING, /* a front-end is there, no driver */
	UMBRA_BALLOON_RUNNING,     /* a driver works */
	UMBRA_BALLOON_BROKEN,      /* a driver broke a ring; see the reason */
};

/* The words of the control protocol: "waiting", "negotiating", "running", "broken". */
UMBRA_API const char *umbra_balloon_state_name(enum umbra_balloon_state state);

/* How the balloon stands to its target.  Each says what is so now. */
enum umbra_balloon_phase {
	UMBRA_BALLOON_NO_DRIVER, /* nobody is there that could do anything */
	UMBRA_BALLOON_IDLE,      /* nobody has asked for anything, and nothing is in the balloon */
	UMBRA_BALLOON_INFLATING, /* on the way; more pages are in the balloon every moment */
	UMBRA_BALLOON_DEFLATING,
	UMBRA_BALLOON_SETTLED,      /* the target is reached, and the host has got what it says */
	UMBRA_BALLOON_UNFREED,      /* reached, but the host has not got all of it */
	UMBRA_BALLOON_STALLED,      /* the driver does not come any nearer */
	UMBRA_BALLOON_QUEUE_BROKEN, /* a queue that moves pages is broken */
	UMBRA_BALLOON_UNKNOWN,      /* the driver holds pages from before this device was made, and
				       has not said yet how many */
};
/* Of all but the first five, and of _NO_DRIVER, umbra_balloon_info::obstacle says why. */

/* "no-driver", "idle", "inflating", "deflating", "settled", "unfreed", "stalled",
 * "broken", "unknown". */
UMBRA_API const char *umbra_balloon_phase_name(enum umbra_balloon_phase phase);

/* The statistics of virtio 1.2, 5.5.6.3, and those that Linux 6.12 added, by tag. */
enum umbra_balloon_stat {
	UMBRA_BALLOON_SWAP_IN, /* bytes */
	UMBRA_BALLOON_SWAP_OUT,
	UMBRA_BALLOON_MAJOR_FAULTS, /* count */
	UMBRA_BALLOON_MINOR_FAULTS,
	UMBRA_BALLOON_FREE_MEMORY, /* bytes */
	UMBRA_BALLOON_TOTAL_MEMORY,
	UMBRA_BALLOON_AVAILABLE_MEMORY,
	UMBRA_BALLOON_DISK_CACHES,
	UMBRA_BALLOON_HUGETLB_ALLOCATIONS, /* count */
	UMBRA_BALLOON_HUGETLB_FAILURES,
	UMBRA_BALLOON_OOM_KILLS,
	UMBRA_BALLOON_ALLOC_STALLS,
	UMBRA_BALLOON_ASYNC_SCANS, /* bytes, also of those that follow */
	UMBRA_BALLOON_DIRECT_SCANS,
	UMBRA_BALLOON_ASYNC_RECLAIMS,
	UMBRA_BALLOON_DIRECT_RECLAIMS,
	UMBRA_BALLOON_STATS
};

struct umbra_balloon_stats {
	uint32_t present;    /* bit n: the driver sends value n */
	uint64_t values[32]; /* room for more than are known today */
	uint64_t age_ms;     /* since they came; UINT64_MAX: none have come */
};

struct umbra_balloon_info {
	size_t struct_size; /* that the library knows: UMBRA_KNOWS() */
	enum umbra_balloon_state state;
	enum umbra_balloon_phase phase;
	char reason[UMBRA_ERROR_SIZE];   /* of the state; "" */
	char obstacle[UMBRA_ERROR_SIZE]; /* of the phase; "" */
	enum umbra_balloon_base base;    /* where memory_bytes comes from */
	uint64_t memory_bytes;           /* of the guest; 0: none is there */
	uint64_t table_bytes;            /* of the regions that the balloon may touch */
	uint64_t floor_bytes;            /* that stay with the guest unless a target is forced */
	uint64_t target_bytes;           /* that the guest shall keep: all, or fewer */
	uint64_t take_bytes;             /* that shall be in the balloon */
	uint64_t target_id;              /* which call of _set_target() it is; 0: none was made */
	uint64_t ballooned_bytes;        /* in the balloon, by our own count and what was adopted */
	uint64_t adopted_bytes;          /* of it, what only the driver tells of: it was there when
					    this device was made */
	uint64_t unfreed_bytes;          /* of it, what the host has not got back */
	uint64_t driver_bytes;           /* in the balloon, as the driver says (`actual`) */
	uint64_t host_bytes;             /* that the host holds for the guest's memory */
	uint64_t host_age_ms;            /* since it was looked up; UINT64_MAX: never.  A query has
					    it looked up anew, unless the device's thread is busy
					    for longer than a tenth of a second */
	uint64_t rate_bytes;             /* a second, in or out, over the last second or so */
	/* Since the device was made: */
	uint64_t discards;        /* runs that were given back */
	uint64_t discarded_bytes; /* their length */
	uint64_t freed_bytes;     /* what of it the host had really held */
	uint64_t discard_errors;
	uint64_t reported_bytes; /* of free pages that the guest reported */
	uint64_t kept_bytes;     /* that the guest named and that were not given back, since their
				    memory must not be discarded */
	uint64_t messages;       /* on the inflate and deflate queues */
	uint64_t refused_messages;
	uint64_t refused_records;  /* or pfns of the stock protocol */
	uint64_t translate_us;     /* spent on messages but for discarding: read, judged, merged */
	uint64_t discard_us;       /* and spent on discarding */
	uint64_t guest_features;   /* acknowledged by the guest */
	uint64_t offered_features; /* to it */
	uint64_t frontends;        /* connections served so far */
	uint32_t memory_regions;
	bool pinned;                        /* see the config */
	uint64_t kept_memory_bytes;         /* of table_bytes; are not given back */
	char kept_reason[UMBRA_ERROR_SIZE]; /* why, of the first region of these; "" */
	struct umbra_balloon_stats stats;
};

/* A region of the guest's memory. */
struct umbra_balloon_region {
	uint64_t gpa, size;                 /* bytes */
	uint64_t page;                      /* bytes; the smallest piece that can be given back */
	char kept_reason[UMBRA_ERROR_SIZE]; /* why it is not given back; "": it is */
};

enum umbra_balloon_event_kind {
	UMBRA_BALLOON_EVENT_STATE,   /* info->state, info->reason */
	UMBRA_BALLOON_EVENT_CHANGE,  /* the balloon's size; at most four a second */
	UMBRA_BALLOON_EVENT_SETTLED, /* the way to a target has ended, at it if info->phase is
					UMBRA_BALLOON_SETTLED */
};

/* What a device may do without: bits of struct umbra_balloon_config::hide. */
enum umbra_balloon_hide {
	UMBRA_BALLOON_HIDE_MUST_TELL_HOST = 1,
	UMBRA_BALLOON_HIDE_STATS = 2,
	UMBRA_BALLOON_HIDE_DEFLATE_ON_OOM = 4,
	UMBRA_BALLOON_HIDE_PAGE_POISON = 8,
	UMBRA_BALLOON_HIDE_REPORTING = 16,
	UMBRA_BALLOON_HIDE_PAGE_BITMAP = 32,
};

struct umbra_balloon_config {
	size_t struct_size; /* UMBRA_SIZED() */
	const char *name;   /* for logs and the control protocol; copied */
	/* Where the VMM comes from, one of three: */
	const char *socket_path;                  /* listen here; copied; NULL: one of the others */
	struct umbra_socket_access socket_access; /* who may connect there */
	const char *connect_path; /* a VMM listens here: connect to it, again and again; copied */
	int socket_fd; /* a listening or a connected socket; consumed on success; else -1 */
	struct umbra_balloon_target target; /* to begin with; 0 bytes kept: all */
	uint64_t memory_bytes;              /* of the guest; 0: what the guest says, or the table */
	uint64_t floor_bytes; /* that stay with the guest unless a target is forced; 0: a
				 sixteenth of its memory, but 64 MiB, or half of it where
				 that is less */
	/* Regions of the memory table that lie in none of these are not given back, and are
	 * not counted; @only_count 0: there are none such.  Copied. */
	const struct umbra_balloon_range *only;
	unsigned int only_count; /* up to UMBRA_BALLOON_RANGES_MAX */
	unsigned int stall_ms;   /* without progress, before the target is called out of reach;
				    0: 5000 */
	unsigned int stats_ms;   /* how often the driver is asked for statistics; 0: never */
	unsigned int hide;       /* enum umbra_balloon_hide: features that are not offered */
	bool single_pages;       /* give back page by page, as other devices do: to compare */
	/*
	 * Memory is given back if it is memory and nothing else (a memfd, or a file on
	 * tmpfs or hugetlbfs) and has no name in any folder.  Other files of a local file
	 * system are guest memory, too, but a hole would destroy what they hold: that is
	 * done only to the files at these paths.  Copied.
	 */
	const char *const *discard_files;
	unsigned int discard_file_count;
	/*
	 * Nothing is given back.  For guests of which a device has pages pinned (VFIO,
	 * vDPA, RDMA, AF_XDP): it would go on with pages that are the guest's no more.
	 */
	bool pinned;
	bool report; /* let the guest report free pages, which are given back unasked */
	/* Called on the thread of _run(): return soon, call nothing of this
	 * device but _query().  May be NULL. */
	void (*on_event)(void *opaque, enum umbra_balloon_event_kind kind,
			 const struct umbra_balloon_info *info);
	void *opaque;
	/* Of the guest's memory, 1 to 100: what it shall keep to begin with, in place of
	 * `target`; 0: see there.  It becomes a size when a driver is there. */
	unsigned int target_percent;
	/*
	 * Keep in the service manager's fd store (NOTIFY_SOCKET) what the next program needs to
	 * go on: the front-end's connection, its memory and rings, and what is in the balloon;
	 * and begin with what it has kept (LISTEN_FDS, of which _create() takes those that are
	 * ours).  For one balloon in a process.
	 */
	bool fd_store;
};

struct umbra_balloon;

/*
 * Make a device and bind its socket; nothing is accepted before _run().
 * A stale socket file is replaced, one that somebody listens on is not.
 * The first call in a process installs a handler for SIGBUS, which deals with
 * guest memory that a front-end takes away and hands on every other; the thread
 * that calls _run() has SIGBUS let through.  It also installs one for a real-time
 * signal, the highest that has no handler: a timer sends it to umbra's own threads,
 * and to the one that calls _run(), to get them out of a call that a peer lets
 * block.  No other thread ever receives it.
 * What peers make the process open ends 64 fds short of RLIMIT_NOFILE, which is
 * the program's to raise.
 * -EBUSY: every real-time signal has a handler.
 * -E2BIG: see umbra/sized.h.
 * -EINVAL, -EADDRINUSE, -ENOMEM, or the code of the system call that failed.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_balloon_create(const struct umbra_balloon_config *config,
						    struct umbra_balloon **out,
						    struct umbra_error *err);

/*
 * Serve one front-end after the other until _stop(), or, when the config gave a
 * connected socket, until that front-end has gone.  0, or the error that made
 * going on impossible.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_balloon_run(struct umbra_balloon *balloon,
						 struct umbra_error *err);

/* Make _run() return soon.  Any thread; async-signal-safe. */
UMBRA_API void umbra_balloon_stop(struct umbra_balloon *balloon);

/*
 * Replace the target, reached or not; it is rounded to pages of 4 KiB in the guest's
 * favour.  Without a driver it waits for one.  What is made of it, a number of pages,
 * is settled when a driver is there: memory that the guest gets later is added to what
 * it keeps.  *@id (may be NULL) is what umbra_balloon_info::target_id says as long as
 * nobody else has set one.
 * -EINVAL: it is below the floor and not forced; the target before stays.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_balloon_set_target(struct umbra_balloon *balloon,
							const struct umbra_balloon_target *target,
							uint64_t *id, struct umbra_error *err);

/* Ask the driver for new statistics; they come a moment later, if it is there. */
UMBRA_API void umbra_balloon_ask_stats(struct umbra_balloon *balloon);

/* How it stands, into @size bytes of @info: see umbra/sized.h. */
UMBRA_API void umbra_balloon_query(struct umbra_balloon *balloon, struct umbra_balloon_info *info,
				   size_t size);

/* The first @max regions of the guest's memory, in the order of their addresses, each
 * into @size bytes of @regions.  Returns how many there are. */
UMBRA_API unsigned int umbra_balloon_regions(struct umbra_balloon *balloon,
					     struct umbra_balloon_region *regions, size_t size,
					     unsigned int max);

/* _run() has returned, or was never called. */
UMBRA_API void umbra_balloon_destroy(struct umbra_balloon **balloon);

#ifdef __cplusplus
}
#endif
#endif
