/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What query-status and query-vhost return, and the data of events.
 *
 * Each function returns NULL only for want of memory.
 */
#ifndef UMBRA_CLI_QMP_REPORT_H
#define UMBRA_CLI_QMP_REPORT_H

#include <jansson.h>

#include "umbra/shadow_device.h"

/* @name is the device's --name, @backend its --backend: "unix:PATH". */
json_t *report_status(const char *name, const char *backend,
		      const struct umbra_shadow_picture *picture);

json_t *report_vhost(const char *backend, const struct umbra_shadow_picture *picture);

json_t *report_state_change(const char *name, enum umbra_device_state from,
			    enum umbra_device_state to, const char *reason);
json_t *report_sought(const char *name, uint64_t attempts, uint32_t pause_ms, const char *reason);

json_t *report_queue_broken(const char *name, unsigned int queue, const char *reason);

#endif
