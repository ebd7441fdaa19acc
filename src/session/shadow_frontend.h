/* SPDX-License-Identifier: BSD-2-Clause */
/* The shadow device as the vhost-user server sees it. */
#ifndef UMBRA_SESSION_SHADOW_FRONTEND_H
#define UMBRA_SESSION_SHADOW_FRONTEND_H

#include "virtio/device.h"

/* Their first argument is a struct shadow_device. */
extern const struct vhost_device_ops shadow_frontend_ops;

#endif
