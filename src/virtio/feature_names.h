/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of features, for logs, errors and reports, as the kernel's headers and the vhost-user
 * specification spell them.
 *
 * Threads: any; everything is constant.
 */
#ifndef UMBRA_VIRTIO_FEATURE_NAMES_H
#define UMBRA_VIRTIO_FEATURE_NAMES_H

#include <stddef.h>
#include <stdint.h>

/* "VIRTIO_F_VERSION_1" for 32: a bit of ring or transport.  NULL: not known here, or a device
 * type's. */
const char *virtio_feature_name(unsigned int bit);

/* A protocol feature: "REPLY_ACK" for 3.  NULL: not known here. */
const char *vhost_protocol_feature_name(unsigned int bit);

#define FEATURES_TEXT_MAX 1024 /* bytes that hold any 64 bits in words */

/*
 * Write the set bits of @bits as words with a space between, "bit 7" for
 * those without a name, "none" for 0, into @text of @size bytes, cut to fit.
 * Returns @text.
 */
const char *vhost_protocol_features_text(char *text, size_t size, uint64_t bits);

#endif
