/* SPDX-License-Identifier: BSD-2-Clause */
/* The shadow device as the vhost-user server sees it. */
#ifndef UMBRA_PORT_SHADOW_FRONTEND_H
#define UMBRA_PORT_SHADOW_FRONTEND_H

#include "vhost/device.h"

/* Their first argument is a struct shadow_device. */
extern const struct vhost_device_ops shadow_frontend_ops;

#endif
