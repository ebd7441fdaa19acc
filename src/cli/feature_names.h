/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Feature bits as reports show them: with names, as the kernel's headers and the vhost-user
 * specification spell them, so that one can search for what one reads.  Those of ring and
 * transport are in virtio/feature_names.h; here are those of device types and of vhost-vdpa.
 */
#ifndef UMBRA_CLI_FEATURE_NAMES_H
#define UMBRA_CLI_FEATURE_NAMES_H

#include <jansson.h>
#include <stdint.h>

/*
 * {"bits": "0x130000000", "names": [...]}, lowest bit first.  Bits that belong to a
 * device type (0-23 and 50-127) have names for the types 1 (network), 2 (block) and
 * 5 (balloon); @device_id 0: the type is not known, as before a vhost-user back-end.
 */
json_t *features_json(uint32_t device_id, uint64_t bits);

/* The same for the protocol features of vhost-user. */
json_t *protocol_features_json(uint64_t bits);

/* The same for the back-end features of vhost-vdpa. */
json_t *backend_features_json(uint64_t bits);

/* What a virtio device type is, in one word ("block"), or NULL. */
const char *device_type_name(uint32_t id);

#endif
