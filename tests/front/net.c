/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Verified load for a network card that sends to itself, as vdpa_sim_net does: a
 * frame that is sent comes back if it is for the card's own address or for all.
 *
 * Theory of operation: queue 0 receives, 1 sends, 2 controls.  Each frame is
 * made of its number.  Most are for the card, some for everybody, and some for
 * somebody else; of the first two kinds each comes back once, in order, whole; the
 * last must not.  No more are on their way than half of the receive buffers, and
 * few are in our hands (front.c gives them back in small lots); all others lie in the device, which
 *never uses them by itself: they are what a switch has to carry over.
 *
 * A card drops what it finds no receive buffer for, and while its queues are
 * started one after the other there are none.  So a frame may be lost at a switch,
 * and at no other time: lost frames are counted, and a test compares (with what
 * the device says, too).  When all that was on its way is lost, nothing comes back
 * that would say so; then, after a while, a frame for everybody is sent to see.
 *
 * With unfiltered=1, a card that sends everything back.
 *
 * Commands:
 *	pause		all frames are back, or known to be lost, and no more are
 *			sent; says how many
 *	resume		send again
 *	mac ADDRESS	set it by the control queue, and look it up in the
 *			configuration space.  From here on, what is for it comes
 *			back, and what is for the address before does not.
 *	clobber ADDRESS	write it to the configuration space and believe nothing of
 *			it: a device that has forgotten what it was told
 *	config BYTES	the beginning of the configuration space
 *	control CLASS COMMAND HEX
 *			any command of the control queue; HEX "-" for no data
 *
 * Threads: the sender; queue 0 and 1.  net.lock is inside of a queue's lock.
 * Implements: virtio 1.2, 5.1.6.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_net.h>

#include "base/bits.h"
#include "base/error.h"
#include "front.h"

enum { RX, TX, CONTROL, QUEUES_MAX };

#define HEADER ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define FRAME_MAX 1514u
#define BUFFER (HEADER + FRAME_MAX)
#define RX_MAX 1024u
#define TX_SLOTS 32u
#define PROBE_NS 100000000 /* without any frame, while some are on their way */
#define ETHERTYPE 0x88b5u  /* for experiments: IEEE 802, clause 9 */
#define DATA_MAX 256u      /* of a control command */

typedef uint8_t mac[ETH_ALEN];

struct buffer {
	struct front_request request;
	struct buffer *next; /* of those that are free to send from */
	uint8_t *bytes;
	bool split;
};

/* A frame that must come back. */
struct expected {
	uint64_t number;
	mac to;
};

static struct {
	struct front *front;
	unsigned int rx_buffers, unfiltered;
	struct buffer rx[RX_MAX], tx[TX_SLOTS];
	pthread_t sender;
	pthread_mutex_t lock;
	pthread_cond_t go; /* the sender may look again */

	/* under the lock */
	struct buffer *free_tx;
	unsigned int tx_free;
	struct expected expected[RX_MAX];
	uint64_t sent, settled; /* of those that are expected; settled: returned or lost */
	uint64_t lost;
	uint64_t number, foreign, broadcast;
	bool paused, stopping, resting;
	mac own, other;

	uint8_t *control_bytes;
	struct front_request control;
	bool control_is_done; /* atomic */
	unsigned int control_commands;
} n = {
	.rx_buffers = 64,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.go = PTHREAD_COND_INITIALIZER,
	.other = { 0x52, 0x54, 0x77, 0x77, 0x77, 0x77 },
};

/* ---- content --------------------------------------------------------------------- */

static uint32_t frame_size(uint64_t number)
{
	return (uint32_t)(64 + front_mix(number ^ n.front->options->seed) % (FRAME_MAX - 63));
}

/* The frame behind its header, from its number, and for whom it is. */
static void frame_write(uint8_t *frame, uint64_t number, const mac to)
{
	struct ether_header header = { .ether_type = htons(ETHERTYPE) };
	uint32_t size = frame_size(number);
	uint64_t v = front_mix(number);

	memcpy(header.ether_dhost, to, ETH_ALEN);
	memcpy(header.ether_shost, n.other, ETH_ALEN);
	memcpy(frame, &header, sizeof(header));
	memcpy(frame + sizeof(header), &number, sizeof(number));
	for (uint32_t i = sizeof(header) + sizeof(number); i < size; i++)
		frame[i] = (uint8_t)(v >> i % 57);
}

/* Find what has come among what is expected; what was sent before it is lost. */
static void frame_settle(const uint8_t *bytes, uint32_t len)
{
	uint8_t frame[FRAME_MAX];
	const struct expected *e;
	uint64_t number, at = n.settled;

	memcpy(&number, bytes + HEADER + sizeof(struct ether_header), sizeof(number));
	while (at < n.sent && n.expected[at % RX_MAX].number != number)
		at++;
	if (at == n.sent) {
		front_complain(
			n.front,
			"%u bytes came, frame %lu by its number, which is not expected, or not "
			"any more",
			len, (unsigned long)number);
		return;
	}
	e = &n.expected[at % RX_MAX];
	n.lost += at - n.settled;
	n.settled = at + 1;
	frame_write(frame, number, e->to);
	if (len != HEADER + frame_size(number) ||
	    memcmp(frame, bytes + HEADER, frame_size(number)) != 0)
		front_complain(n.front,
			       "frame %lu came back with %u bytes, and is not what was sent",
			       (unsigned long)number, len);
}

/* ---- receiving --------------------------------------------------------------------- */

static void rx_done(struct front_request *r);

static void rx_add(struct buffer *b)
{
	struct driver_seg segs[FRONT_SEGS_MAX];
	unsigned int count = 0;
	uint32_t first = b->split ? HEADER : BUFFER;

	memset(b->bytes, 0, BUFFER);
	front_seg(n.front, b->bytes, first, true, segs, &count);
	front_seg(n.front, b->bytes + first, BUFFER - first, true, segs, &count);
	b->request.done = rx_done;
	if (!front_add(&n.front->queues[RX], segs, count, &b->request, false))
		front_fail(n.front, "no room for the receive buffer that has just come back");
}

static void rx_done(struct front_request *r)
{
	struct buffer *b = (void *)((char *)r - offsetof(struct buffer, request));

	pthread_mutex_lock(&n.lock);
	if (r->clamped)
		front_complain(n.front, "more bytes came than a receive buffer has");
	frame_settle(b->bytes, r->len);
	pthread_cond_signal(&n.go);
	pthread_mutex_unlock(&n.lock);
	rx_add(b);
	front_count(n.front, 1);
}

/* ---- sending ------------------------------------------------------------------------ */

static void tx_done(struct front_request *r)
{
	struct buffer *b = (void *)((char *)r - offsetof(struct buffer, request));

	pthread_mutex_lock(&n.lock);
	b->next = n.free_tx;
	n.free_tx = b;
	n.tx_free++;
	pthread_cond_signal(&n.go);
	pthread_mutex_unlock(&n.lock);
}

/* Wait until a frame may be sent.  NULL: the end.  *@probe: since nothing has come
 * for a while.  The lock is held. */
static struct buffer *tx_take(bool *probe)
{
	struct buffer *b;

	for (*probe = false;;) {
		uint64_t on_the_way = n.sent - n.settled;
		bool rest = n.tx_free == TX_SLOTS && on_the_way == 0;
		struct timespec until;

		if (n.paused && rest && !n.resting) {
			n.resting = true;
			front_count(n.front, 1);
		}
		if (n.stopping && rest)
			return NULL;
		if (!n.paused && n.free_tx && on_the_way < n.rx_buffers / 2)
			break;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += PROBE_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		*probe = pthread_cond_timedwait(&n.go, &n.lock, &until) == ETIMEDOUT &&
			 n.tx_free == TX_SLOTS && on_the_way && on_the_way < RX_MAX - 1 &&
			 n.sent - n.settled == on_the_way;
		if (*probe)
			break;
	}
	b = n.free_tx;
	n.free_tx = b->next;
	n.tx_free--;
	return b;
}

/* The next frame into @b, and remember it if it must come back. */
static void tx_make(struct buffer *b, bool probe)
{
	static const mac everybody = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	uint64_t number = n.number++;
	unsigned int kind = (unsigned int)(front_mix(number) % 16);
	const uint8_t *to = probe || kind == 0 ? everybody : kind <= 3 ? n.other : n.own;

	memset(b->bytes, 0, HEADER);
	frame_write(b->bytes + HEADER, number, to);
	if (to == n.other) {
		n.foreign++;
		if (!n.unfiltered)
			return;
	}
	n.broadcast += to == everybody;
	n.expected[n.sent % RX_MAX].number = number;
	memcpy(n.expected[n.sent % RX_MAX].to, to, ETH_ALEN);
	n.sent++;
}

static void *sender_run(void *unused)
{
	struct front_queue *q = &n.front->queues[TX];
	struct driver_seg segs[FRONT_SEGS_MAX];
	struct buffer *b;
	bool probe;

	(void)unused;
	for (;;) {
		unsigned int count = 0;
		uint32_t len;

		pthread_mutex_lock(&n.lock);
		b = tx_take(&probe);
		if (b) {
			len = HEADER + frame_size(n.number);
			tx_make(b, probe);
		}
		pthread_mutex_unlock(&n.lock);
		if (!b)
			return NULL;
		/* In one segment or two; the device may not care (ANY_LAYOUT). */
		front_seg(n.front, b->bytes, HEADER, false, segs, &count);
		front_seg(n.front, b->bytes + HEADER, len - HEADER, false, segs, &count);
		b->request.done = tx_done;
		pthread_mutex_lock(&q->lock);
		front_add(q, segs, count, &b->request, true);
		front_publish(q);
		pthread_mutex_unlock(&q->lock);
	}
}

static void print_frames(void)
{
	printf(", \"sent\": %lu, \"frames\": %lu, \"lost\": %lu, \"broadcast\": %lu, "
	       "\"foreign\": %lu, \"control\": %u",
	       (unsigned long)n.number, (unsigned long)(n.settled - n.lost), (unsigned long)n.lost,
	       (unsigned long)n.broadcast, (unsigned long)n.foreign, n.control_commands);
}

/* Until all frames are back, or known to be lost. */
static int net_pause(struct front *f, struct umbra_error *err)
{
	uint64_t seen;
	bool resting;
	int rc;

	pthread_mutex_lock(&n.lock);
	n.paused = true;
	n.resting = false;
	pthread_cond_signal(&n.go);
	pthread_mutex_unlock(&n.lock);
	for (;;) {
		/* In this order: the sender rests, and then counts. */
		seen = front_progress(f);
		pthread_mutex_lock(&n.lock);
		resting = n.resting;
		pthread_mutex_unlock(&n.lock);
		if (resting)
			return 0;
		rc = front_wait(f, seen + 1, err);
		if (rc)
			return rc;
	}
}

static void net_resume(void)
{
	pthread_mutex_lock(&n.lock);
	n.paused = false;
	pthread_cond_signal(&n.go);
	pthread_mutex_unlock(&n.lock);
}

/* ---- the control queue ------------------------------------------------------------------ */

static void control_done(struct front_request *r)
{
	(void)r;
	__atomic_store_n(&n.control_is_done, true, __ATOMIC_RELEASE);
	front_count(n.front, 1);
}

/* Returns the device's answer, or -errno. */
static int control(struct front *f, uint8_t class, uint8_t command, const void *data,
		   unsigned int size, struct umbra_error *err)
{
	struct front_queue *q = &f->queues[CONTROL];
	uint8_t *ack = n.control_bytes + 2 + DATA_MAX;
	struct driver_seg segs[FRONT_SEGS_MAX];
	unsigned int count = 0;
	uint64_t seen;
	int rc = 0;

	if (f->queue_count <= CONTROL)
		return error_set(err, -EOPNOTSUPP, "the device has no control queue");
	n.control_bytes[0] = class;
	n.control_bytes[1] = command;
	memcpy(n.control_bytes + 2, data, size);
	*ack = 0xff;
	front_seg(f, n.control_bytes, 2, false, segs, &count);
	front_seg(f, n.control_bytes + 2, size, false, segs, &count);
	front_seg(f, ack, 1, true, segs, &count);
	n.control.done = control_done;
	n.control_commands++;
	n.control_is_done = false;
	pthread_mutex_lock(&q->lock);
	front_add(q, segs, count, &n.control, true);
	front_publish(q);
	pthread_mutex_unlock(&q->lock);
	while (seen = front_progress(f),
	       !rc && !__atomic_load_n(&n.control_is_done, __ATOMIC_ACQUIRE))
		rc = front_wait(f, seen + 1, err);
	if (!rc && n.control.len != 1)
		rc = error_set(err, -EPROTO, "the answer to a control command has %u bytes, not 1",
			       n.control.len);
	return rc ? rc : *ack;
}

static bool mac_parse(const char *text, mac out)
{
	return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &out[0], &out[1], &out[2], &out[3],
		      &out[4], &out[5]) == ETH_ALEN;
}

static void print_bytes(const char *name, const uint8_t *bytes, unsigned int size)
{
	printf(", \"%s\": \"", name);
	for (unsigned int i = 0; i < size; i++)
		printf("%02x", bytes[i]);
	printf("\"");
}

static int command_mac(struct front *f, const char *rest, struct umbra_error *err)
{
	mac address, seen;
	int ack, rc;

	if (!mac_parse(rest, address))
		return error_set(err, -EINVAL, "mac wants an address, not '%s'", rest);
	ack = control(f, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, address, ETH_ALEN, err);
	if (ack < 0)
		return ack;
	rc = front_get_config(f, 0, seen, ETH_ALEN, err);
	if (rc)
		return rc;
	printf(", \"ack\": %d", ack);
	print_bytes("config", seen, ETH_ALEN);
	if (ack == VIRTIO_NET_OK) {
		/* What is for the old one must not come back any more. */
		pthread_mutex_lock(&n.lock);
		if (memcmp(n.own, address, ETH_ALEN) != 0)
			memcpy(n.other, n.own, ETH_ALEN);
		memcpy(n.own, address, ETH_ALEN);
		pthread_mutex_unlock(&n.lock);
	}
	return 0;
}

static int command_control(struct front *f, const char *rest, struct umbra_error *err)
{
	unsigned int class, command, size = 0, byte;
	char hex[2 * DATA_MAX + 1];
	uint8_t data[DATA_MAX];
	int ack;

	if (sscanf(rest, "%u %u %512s", &class, &command, hex) != 3)
		return error_set(err, -EINVAL, "control wants CLASS COMMAND HEX, not '%s'", rest);
	for (const char *at = hex; sscanf(at, "%2x", &byte) == 1 && size < DATA_MAX; at += 2)
		data[size++] = (uint8_t)byte;
	ack = control(f, (uint8_t) class, (uint8_t)command, data, size, err);
	if (ack >= 0)
		printf(", \"ack\": %d", ack);
	return ack < 0 ? ack : 0;
}

static int command_config(struct front *f, const char *rest, struct umbra_error *err)
{
	unsigned int size = (unsigned int)atoi(rest);
	uint8_t bytes[256];
	int rc;

	if (size < 1 || size > sizeof(bytes))
		return error_set(err, -EINVAL, "config wants a number of bytes, 1 to 256");
	rc = front_get_config(f, 0, bytes, size, err);
	if (!rc)
		print_bytes("config", bytes, size);
	return rc;
}

static int command_clobber(struct front *f, const char *rest, struct umbra_error *err)
{
	mac address;

	if (!mac_parse(rest, address))
		return error_set(err, -EINVAL, "clobber wants an address, not '%s'", rest);
	return front_set_config(f, 0, address, ETH_ALEN, err);
}

/* ---- the workload ------------------------------------------------------------------------ */

static bool net_option(const char *text)
{
	if (sscanf(text, "unfiltered=%u", &n.unfiltered) == 1)
		return n.unfiltered <= 1;
	return sscanf(text, "rx-buffers=%u", &n.rx_buffers) == 1 && n.rx_buffers >= 2 &&
	       n.rx_buffers <= RX_MAX;
}

static int net_begin(struct front *f, const struct front_options *o, struct umbra_error *err)
{
	const uint64_t wanted = BIT64(VIRTIO_NET_F_MAC) | BIT64(VIRTIO_NET_F_CTRL_VQ) |
				BIT64(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT64(VIRTIO_NET_F_CTRL_RX) |
				BIT64(VIRTIO_NET_F_CTRL_VLAN) | BIT64(VIRTIO_NET_F_STATUS);
	unsigned int queues = CONTROL;
	int rc = front_open(f, o, wanted, err);

	n.front = f;
	/* A buffer of two segments must fit without an indirect table, too. */
	n.rx_buffers = MIN(n.rx_buffers, o->ring_size / 2);
	if (!rc && f->features & BIT64(VIRTIO_NET_F_CTRL_VQ))
		queues = QUEUES_MAX;
	if (!rc && f->features & BIT64(VIRTIO_NET_F_MAC))
		rc = front_get_config(f, 0, n.own, ETH_ALEN, err);
	if (!rc)
		rc = front_start(f, queues, (RX_MAX + TX_SLOTS + 1) * (BUFFER + 8ul), err);
	if (rc)
		return rc;
	n.control_bytes = front_alloc(f, 2 + DATA_MAX + 1, 8);
	for (unsigned int i = 0; i < TX_SLOTS; i++) {
		n.tx[i].bytes = front_alloc(f, BUFFER, 8);
		n.tx[i].next = n.free_tx;
		n.free_tx = &n.tx[i];
	}
	n.tx_free = TX_SLOTS;
	pthread_mutex_lock(&f->queues[RX].lock);
	for (unsigned int i = 0; i < n.rx_buffers; i++) {
		n.rx[i].bytes = front_alloc(f, BUFFER, 8);
		n.rx[i].split = i % 2;
		rx_add(&n.rx[i]);
	}
	front_publish(&f->queues[RX]);
	pthread_mutex_unlock(&f->queues[RX].lock);
	if (pthread_create(&n.sender, NULL, sender_run, NULL))
		rc = error_set(err, -EAGAIN, "no thread");
	return rc;
}

/* What changes what comes back wants the load to pause. */
static int net_command(struct front *f, const char *word, const char *rest, struct umbra_error *err)
{
	static const struct {
		const char *word;
		int (*execute)(struct front *f, const char *rest, struct umbra_error *err);
	} commands[] = {
		{ "mac", command_mac },
		{ "control", command_control },
		{ "config", command_config },
		{ "clobber", command_clobber },
	};
	bool was_paused = n.paused;
	int rc = -ENOSYS;

	if (!strcmp(word, "pause")) {
		rc = net_pause(f, err);
		print_frames();
		return rc;
	}
	if (!strcmp(word, "resume")) {
		net_resume();
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(word, commands[i].word) != 0)
			continue;
		rc = net_pause(f, err);
		if (!rc)
			rc = commands[i].execute(f, rest, err);
		if (!rc && !was_paused && strcmp(word, "clobber") != 0)
			net_resume();
	}
	return rc;
}

static int net_end(struct front *f, struct umbra_error *err)
{
	int rc = net_pause(f, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&n.lock);
	n.stopping = true;
	pthread_cond_signal(&n.go);
	pthread_mutex_unlock(&n.lock);
	pthread_join(n.sender, NULL);
	print_frames();
	return 0;
}

const struct front_workload net_workload = {
	.name = "net",
	.option = net_option,
	.begin = net_begin,
	.command = net_command,
	.end = net_end,
};
