/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra/shadow_device.h - a virtio device between a VM and its back-end.
 *
 * A shadow device listens on a vhost-user socket for a front-end (a VMM) and
 * connects to a back-end: a vhost-user socket, or a vDPA device of the kernel's.  Either
 * connection can be made from the other side.
 * While it is passed through, the back-end works on
 * the guest's own rings and eventfds and this process does nothing.  While it
 * is shadowed, the guest's buffers are forwarded through rings that the
 * process owns.  The mode can be changed while the guest runs.
 *
 *	struct umbra_shadow_device *device;
 *	struct umbra_error err;
 *
 *	if (umbra_shadow_device_create(&config, &device, &err))
 *		errx(1, "%s", err.text);
 *	umbra_shadow_device_run(device, &err);	// returns after _stop()
 *	umbra_shadow_device_destroy(&device);
 *
 * Threads: _run() takes the calling thread for the vhost-user messages and
 * starts others for the rings.  _stop(), _switch(), _hold(), _release(), _trust(),
 * _save_control(), _load_control() and _query() may be called from any thread at any time between
 *_create() and _destroy(); _stop() also from a signal handler.
 *
 * Implements: the vhost-user protocol on both sides; the kernel's vhost-vdpa;
 * virtio 1.2 split rings.
 */
#ifndef UMBRA_SHADOW_DEVICE_H
#define UMBRA_SHADOW_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"
#include "umbra/sized.h"
#include "umbra/socket.h"

#ifdef __cplusplus
extern "C" {
#endif

enum umbra_shadow_mode {
	UMBRA_SHADOW_AUTO, /* passed through until somebody asks for the shadow */
	UMBRA_SHADOW_ON,   /* shadowed whenever it runs */
	UMBRA_SHADOW_OFF,  /* passed through, always */
};

enum umbra_device_state {
	UMBRA_DEVICE_WAITING,     /* for a front-end, or a back-end that connects; see the reason */
	UMBRA_DEVICE_NEGOTIATING, /* a front-end is there, no ring runs */
	UMBRA_DEVICE_PASSTHROUGH, /* rings run, the back-end works on the guest's */
	UMBRA_DEVICE_SHADOWED,    /* rings run, buffers are forwarded */
	UMBRA_DEVICE_SWITCHING,   /* draining one mode to start the other */
	UMBRA_DEVICE_BACKEND_LOST, /* no back-end; see the reason */
	UMBRA_DEVICE_BROKEN,       /* a ring is broken; see the reason */
	UMBRA_DEVICE_HELD,         /* the back-end is away and waited for; see the reason */
};

/* The words of the control protocol: "waiting", ... "backend-lost", "broken". */
UMBRA_API const char *umbra_device_state_name(enum umbra_device_state state);

enum umbra_event_kind {
	UMBRA_EVENT_STATE,        /* from -> to */
	UMBRA_EVENT_QUEUE_BROKEN, /* queue, reason */
	UMBRA_EVENT_SOUGHT,       /* the next back-end, in vain: attempts, pause_ms, reason */
};

struct umbra_event {
	size_t struct_size; /* that the library knows: UMBRA_KNOWS() */
	enum umbra_event_kind kind;
	enum umbra_device_state from, to;
	unsigned int queue;
	const char *reason; /* "" if there is none; lives until the callback returns */
	uint64_t attempts;  /* one after the other */
	uint32_t pause_ms;  /* until the next */
};

/* What becomes of requests that a lost back-end had, and of which nobody knows whether they were
 * done. */
enum umbra_on_loss {
	/* What is right for the device type.  VIRTIO_ID_BLOCK and _SCSI: as _REPLAY.
	 * VIRTIO_ID_NET: receive buffers are given to the next one, and packets that were to be
	 * sent are lost.  All others: as _RESET. */
	UMBRA_LOSS_BY_TYPE,
	UMBRA_LOSS_REPLAY, /* the next one is given them again, in the guest's order */
	UMBRA_LOSS_RESET,  /* nobody is given them: the rings are broken until the guest resets them
			    */
	UMBRA_LOSS_HOLD,   /* the next one waits for umbra_shadow_device_settle_loss() */
};

struct umbra_shadow_config {
	size_t struct_size; /* UMBRA_SIZED() */
	const char *name;   /* for logs and the control protocol; copied */
	/* Where the VMM comes from, one of three: */
	const char *socket_path;                  /* listen here; copied; NULL: one of the others */
	struct umbra_socket_access socket_access; /* who may connect there */
	const char *connect_path; /* a VMM listens here: connect to it, again and again; copied */
	int socket_fd;       /* a listening or a connected socket; consumed on success; else -1 */
	const char *backend; /* "unix:PATH", "listen:PATH" (vhost-user) or "vdpa:PATH" (vhost-vdpa);
				copied */
	enum umbra_shadow_mode mode;
	unsigned int switch_deadline_ms; /* longest wait for a back-end in a switch; 0: 5000 */
	unsigned int threads;            /* that serve shadowed rings; 0: one */
	/* Descriptors of the longest indirect table that a guest may build, where its
	 * ring is shorter (at most 32768); 0: 2048.  See umbra/ring.h. */
	uint32_t table_max;
	/* Bytes of umbra's own memory that the back-end maps, at the most, and from the
	 * start where it can be given no more later; 0: as many as the queues need that
	 * are started, up to 64 MiB, or a MiB for each queue that the back-end has, and
	 * 8 MiB from the start. */
	uint64_t shadow_memory;
	/* Called on the device's or a ring's thread: return soon, call nothing
	 * of this device but _query().  May be NULL. */
	void (*on_event)(void *opaque, const struct umbra_event *event);
	void *opaque;
	/*
	 * Go on without a back-end that is lost, and wait for the next one: UMBRA_DEVICE_HELD. What
	 * becomes of that which the lost one may have done or not depends on `device_type`, a
	 * virtio device type, unless `on_loss` says otherwise.  Of a vhost-user back-end, and only
	 * shadowed: `mode` is not UMBRA_SHADOW_OFF, and UMBRA_SHADOW_AUTO means UMBRA_SHADOW_ON.
	 */
	bool reconnect;
	uint32_t device_type;
	enum umbra_on_loss on_loss;
	/* How long a device is UMBRA_DEVICE_HELD at most, s, whether its back-end was lost or it is
	 * held by hand; then that counts as lost, and the front-end is disconnected.  0: for ever.
	 */
	uint32_t hold_limit_s;
};

struct umbra_shadow_device;

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
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_create(const struct umbra_shadow_config *config,
							  struct umbra_shadow_device **out,
							  struct umbra_error *err);

/*
 * Serve one front-end after the other until _stop(), or, when the config gave
 * a connected socket, until that front-end has gone.  0, or the error that
 * made going on impossible.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_run(struct umbra_shadow_device *device,
						       struct umbra_error *err);

/*
 * Make _run() return.  The first call brings the rings to rest: what is with the back-end
 * is waited for, at most the switch deadline, and completed to the guest; what was left
 * the log says.  A second one does not wait.  Any thread; async-signal-safe.
 */
UMBRA_API void umbra_shadow_device_stop(struct umbra_shadow_device *device);

/*
 * Ask for the shadow, or for passing through.  @done is called exactly once:
 * on the device's thread with 0 when the rings run in the new mode, or with an
 * error (then the old mode goes on, or @err says why not); a device without a
 * running ring only remembers the wish.  Asking for the mode that is there
 * already succeeds.
 *  -EBUSY      another switch is under way
 *  -EPERM      the mode is UMBRA_SHADOW_OFF or _ON and forbids it
 *  -EOPNOTSUPP what the guest negotiated cannot be had in the other mode
 *  -ETIMEDOUT  the back-end did not finish in time; the old mode goes on
 *  -ECONNRESET the back-end is lost: it has gone, or does not answer
 *  -EPROTO     a queue broke on the way; the others run in the new mode
 *  -ECANCELED  the device was stopped, or the front-end has gone
 * Returns 0 if @done will be called, -ECANCELED if the device is stopped, -ENOMEM.
 */
typedef void umbra_switch_done(void *opaque, int result, const struct umbra_error *err);
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_switch(struct umbra_shadow_device *device,
							  bool shadowed, umbra_switch_done *done,
							  void *opaque);

/*
 * What the guest has told a vDPA network device on its control queue, to take
 * it along when the guest migrates.  @done is called as by _switch(); the bytes of
 * save live until it returns.
 *  -EBUSY      another request is under way
 *  -EALREADY   load: the control queue has been started; load before the front-end starts
 *              its rings, best before it connects
 *  -EOPNOTSUPP save: there is no control queue that is followed; load: it cannot be
 *              told to this device
 *  -EINVAL     load: it is not a saved state
 *  -ENOMEM, -ECANCELED
 * What is loaded before there is a front-end waits for one.  If it does not fit what that
 * one's guest takes, SET_FEATURES fails.
 * Returns 0 if @done will be called, -ECANCELED if the device is stopped, -ENOMEM.
 */
typedef void umbra_control_saved(void *opaque, int result, const void *bytes, size_t size,
				 const struct umbra_error *err);
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_save_control(struct umbra_shadow_device *device,
								umbra_control_saved *done,
								void *opaque);
/*
 * End the process of a vhost-user back-end, the one that is there or the one that was lost, with
 * SIGKILL: for one that hangs.  -EOPNOTSUPP: which process it is cannot be told; -ESRCH: it has
 * ended; -EPERM.  Any thread; it does not wait.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_kill_backend(struct umbra_shadow_device *device,
								struct umbra_error *err);
/*
 * The operator's word that the back-end that was lost writes no more: for one whose process does
 * not end, or is not known.  If it is wrong, the guest's data is at stake.
 * As of _switch(); -EINVAL: the device is not UMBRA_DEVICE_HELD.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_trust(struct umbra_shadow_device *device,
							 umbra_switch_done *done, void *opaque);

/*
 * Let go of the back-end, so that it can be taken down and another one started, while the
 * front-end stays: UMBRA_DEVICE_HELD, until _release().  What is with the back-end is waited for,
 * at most the switch deadline.  With @force nothing is waited for: that is as a loss, and only
 * where a loss would be borne.  Without a front-end, or with one that comes meanwhile, none is
 * connected to before _release() either.
 * As of _switch(); when @done is called with 0, the back-end may be taken down.
 *  -EALREADY   it is held by hand
 *  -EOPNOTSUPP it cannot be held so: a vhost-vdpa device, or (@force) requests that may not be
 *              done twice
 *  -ETIMEDOUT  the back-end did not finish in time; all goes on as before
 *  -ECONNRESET the back-end is lost, and that cannot be borne
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_hold(struct umbra_shadow_device *device,
							bool force, umbra_switch_done *done,
							void *opaque);
/*
 * Look for a back-end again, which is given the device that is held.  @done is called when that
 * begins; the state says when it is there.  As of _switch(); -EINVAL: it is not held by hand.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_release(struct umbra_shadow_device *device,
							   umbra_switch_done *done, void *opaque);

/* The operator's word on what becomes of them. */
enum umbra_loss_word { UMBRA_LOSS_WORD_REPLAY, UMBRA_LOSS_WORD_RESET };
/* As of _switch(); -EINVAL: nobody is asked. */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_settle_loss(struct umbra_shadow_device *device,
							       enum umbra_loss_word word,
							       umbra_switch_done *done,
							       void *opaque);

UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_load_control(struct umbra_shadow_device *device,
								const void *bytes, size_t size,
								umbra_switch_done *done,
								void *opaque);

#define UMBRA_QUEUES_MAX 256u /* vhost-user: the ring index is 8 bits wide */

struct umbra_queue_info {
	size_t struct_size; /* that the library knows: UMBRA_KNOWS() */
	uint32_t size;      /* entries; 0: not set yet */
	bool started, enabled, shadowed;
	uint16_t last_avail_idx; /* next guest chain to take (while shadowed) */
	uint16_t last_used_idx;  /* next guest used entry to write (while shadowed) */
	uint32_t in_flight;      /* chains at the back-end (while shadowed) */
	/* Since the device was made, counted while shadowed: */
	uint64_t requests;            /* chains completed */
	uint64_t bytes_out;           /* readable bytes forwarded */
	uint64_t bytes_in;            /* bytes that the back-end wrote */
	uint64_t kicks_in, kicks_out; /* from the guest, to the back-end */
	uint64_t calls_in, calls_out; /* from the back-end, to the guest */
	uint64_t clamped;             /* used lengths beyond the chain */
	uint64_t returned; /* buffers that a device had not used when it was reset, given back */
	uint64_t lost;     /* requests that it had taken and not used, which could not be */
	uint32_t table_longest; /* descriptors of the longest indirect table that was longer than
				   the queue, which no driver may build; 0: none was */
	char error[UMBRA_ERROR_SIZE]; /* why the queue is broken; "" if it is not */
};

/*
 * The process behind a back-end's socket.  A connection that was closed does not say that
 * nothing is written any more; the end of the process does, as far as the storage is local.
 */
enum umbra_process_state {
	UMBRA_PROCESS_UNKNOWN, /* whether it ends cannot be seen; or there was none yet */
	UMBRA_PROCESS_LIVES,
	UMBRA_PROCESS_ENDED,
};

/* What is behind the device. */
struct umbra_backend_info {
	size_t struct_size;     /* that the library knows: UMBRA_KNOWS() */
	char kind[16];          /* "vhost-user", "vhost-vdpa"; "": not connected */
	uint32_t device_id;     /* virtio device type; 0: not known */
	uint32_t queue_count;   /* that it has at most; 0: not known */
	uint32_t queue_size;    /* entries at most; 0: not known */
	uint64_t abilities;     /* vhost-vdpa: back-end features offered (VHOST_BACKEND_F_...) */
	char stops[96];         /* how it is stopped, as a sentence; "" */
	uint64_t iova_first;    /* vhost-vdpa: the addresses that it can be given; both */
	uint64_t iova_last;     /* inclusive */
	bool translated;        /* it sees guest memory elsewhere than the guest does */
	uint32_t mapped_ranges; /* vhost-vdpa: guest memory and the shadow's own */
	uint64_t mapped_bytes;
	/* vhost-user: the process behind the socket; also of a back-end that was lost. */
	int32_t process; /* its number; 0: not known */
	enum umbra_process_state process_state;
	char process_name[64];  /* "pid 4711, virtiofsd", as it names itself; "" */
	char process_doubt[96]; /* of UMBRA_PROCESS_UNKNOWN: why, a sentence; "" */
	/* While the next one is looked for: attempts in vain, one after the other, and the pause
	 * before the next. */
	uint64_t attempts;
	uint32_t pause_ms;
	/* While an answer of it is waited for: to what, and for how long. */
	char unanswered[32];
	uint64_t unanswered_us;
};

/* What a guest has said of one receive mode. */
enum umbra_net_mode { UMBRA_NET_MODE_UNSAID, UMBRA_NET_MODE_OFF, UMBRA_NET_MODE_ON };

/* VIRTIO_NET_CTRL_RX_PROMISC, _ALLMULTI, _ALLUNI, _NOMULTI, _NOUNI and _NOBCAST. */
#define UMBRA_NET_MODES 6u

struct umbra_net_coalesce {
	uint32_t max_packets, max_us;
};

/*
 * What the guest has told a vDPA network device on its control queue.  The
 * device forgets it when it is stopped, and is told it again.
 */
struct umbra_net_control_info {
	size_t struct_size; /* that the library knows: UMBRA_KNOWS() */
	bool is_followed;   /* there is such a queue; else nothing below means anything */
	bool is_waiting;    /* a loaded state waits for a guest */
	bool has_mac, has_filter, has_rss, has_hash, has_offloads; /* it was said */
	bool has_coalesce_rx, has_coalesce_tx;
	uint8_t mac[6];
	enum umbra_net_mode modes[UMBRA_NET_MODES];
	uint32_t unicast, multicast;         /* addresses in the filter tables */
	uint32_t vlans;                      /* that are let through */
	uint16_t queue_pairs;                /* in use */
	uint32_t rss_entries;                /* of the indirection table */
	uint32_t rss_hash_types, hash_types; /* masks of VIRTIO_NET_RSS_HASH_TYPE_... */
	uint64_t offloads;                   /* mask of VIRTIO_NET_F_GUEST_... */
	struct umbra_net_coalesce coalesce_rx, coalesce_tx;
	/* Commands, since the device was made: */
	uint64_t accepted; /* by the device */
	uint64_t refused;  /* by us: they cannot be followed, or are malformed */
	uint64_t failed;   /* by the device */
	uint64_t replayed; /* told again */
};

struct umbra_shadow_info {
	size_t struct_size; /* that the library knows: UMBRA_KNOWS() */
	enum umbra_device_state state;
	char reason[UMBRA_ERROR_SIZE]; /* of the state; "" if there is none */
	enum umbra_shadow_mode mode;
	bool shadow_wanted;                      /* the mode that the rings run in, or will */
	uint64_t backend_features;               /* offered by the back-end; 0: not connected yet */
	uint64_t guest_features;                 /* acknowledged by the guest */
	uint64_t protocol_features;              /* acknowledged by the front-end */
	char shadow_refused[UMBRA_ERROR_SIZE];   /* why the shadow cannot be had; "" */
	char dropped_features[UMBRA_ERROR_SIZE]; /* which bits were not offered, and why */
	uint64_t memory_bytes;                   /* of the guest */
	uint32_t memory_regions;
	uint64_t shadow_memory_bytes; /* umbra's own, that the back-end has */
	uint32_t shadow_memory_regions;
	uint64_t frontends;                       /* connections served so far */
	uint64_t switches, switches_failed;       /* one that came too late is among the failed */
	uint64_t last_pause_us, longest_pause_us; /* rings stopped by a switch */
	uint32_t queue_count;                     /* at most UMBRA_QUEUES_MAX */
	uint32_t held_requests; /* UMBRA_DEVICE_HELD: that the lost back-end may have done or not */
	uint64_t holds;         /* how often the device was held */
	uint64_t replayed;      /* such requests, given to another back-end */
	uint64_t last_hold_us, longest_hold_us; /* from the loss until queues ran again */
	bool held_by_hand;      /* until umbra_shadow_device_release() no back-end is looked for */
	uint64_t held_us;       /* UMBRA_DEVICE_HELD, or by hand: for how long */
	uint64_t dropped;       /* packets to be sent that a lost back-end had, lost as on a wire */
	uint64_t hold_limit_us; /* of UMBRA_DEVICE_HELD; 0: none */
	/* Would the guest notice if this process were killed, and another came in its place?  The
	 * front-end keeps what is in flight, or does not, because of this. */
	bool survives_death;
	char death_reason[UMBRA_ERROR_SIZE]; /* "" if it does */
};

/*
 * All that is to be known of a device, at one moment.  What it is asked for it lends until
 * it is destroyed; structs grow at their ends: see umbra/sized.h.
 */
struct umbra_shadow_picture;

/* -ENOMEM.  Destroy what comes. */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_device_query(struct umbra_shadow_device *device,
							 struct umbra_shadow_picture **out);
UMBRA_API const struct umbra_shadow_info *
umbra_shadow_picture_device(const struct umbra_shadow_picture *picture);
UMBRA_API const struct umbra_backend_info *
umbra_shadow_picture_backend(const struct umbra_shadow_picture *picture);
UMBRA_API const struct umbra_net_control_info *
umbra_shadow_picture_control(const struct umbra_shadow_picture *picture);
/* NULL: there are not so many. */
UMBRA_API const struct umbra_queue_info *
umbra_shadow_picture_queue(const struct umbra_shadow_picture *picture, unsigned int index);
/* Destroy *@picture, if there is one, and leave NULL. */
UMBRA_API void umbra_shadow_picture_destroy(struct umbra_shadow_picture **picture);

/* _run() has returned, or was never called. */
UMBRA_API void umbra_shadow_device_destroy(struct umbra_shadow_device **device);

#ifdef __cplusplus
}
#endif
#endif
