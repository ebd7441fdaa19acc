/* SPDX-License-Identifier: BSD-2-Clause */
/* What a picture of a device lends: see umbra/shadow_device.h. */
#include <stdlib.h>

#include "device/shadow_device.h"

const struct umbra_shadow_info *
umbra_shadow_picture_device(const struct umbra_shadow_picture *picture)
{
	return &picture->info;
}

const struct umbra_backend_info *
umbra_shadow_picture_backend(const struct umbra_shadow_picture *picture)
{
	return &picture->backend;
}

const struct umbra_net_control_info *
umbra_shadow_picture_control(const struct umbra_shadow_picture *picture)
{
	return &picture->control;
}

const struct umbra_queue_info *
umbra_shadow_picture_queue(const struct umbra_shadow_picture *picture, unsigned int index)
{
	return index < picture->info.queue_count ? &picture->queues[index] : NULL;
}

void umbra_shadow_picture_destroy(struct umbra_shadow_picture **picture)
{
	free(*picture);
	*picture = NULL;
}
