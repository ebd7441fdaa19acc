/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that is taken away from under us: see mapping_guard.h. */
#include "host/mapping_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

struct guard {
	uintptr_t base; /* atomic */
	size_t length;  /* atomic; 0: the entry is free.  Written last when added, first when
			   removed, so that a handler that looks at another's entry never
			   believes half of one. */
	size_t page;
	bool *cut;
};

static struct guard guards[MAPPING_GUARDS_MAX];
static pthread_mutex_t guards_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;

static const struct guard *guard_find(uintptr_t address)
{
	for (unsigned int i = 0; i < MAPPING_GUARDS_MAX; i++) {
		size_t length = __atomic_load_n(&guards[i].length, __ATOMIC_ACQUIRE);

		if (address - __atomic_load_n(&guards[i].base, __ATOMIC_RELAXED) < length)
			return &guards[i];
	}
	return NULL;
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	const struct guard *g = guard_find((uintptr_t)info->si_addr);
	int saved_errno = errno;
	void *page;

	if (g && info->si_code == BUS_ADRERR) {
		page = (void *)((uintptr_t)info->si_addr & ~(g->page - 1));
		if (mmap(page, g->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
			__atomic_store_n(g->cut, true, __ATOMIC_RELEASE);
			errno = saved_errno;
			return;
		}
	}
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(signal, info, context);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(signal);
	} else {
		/* The access is made again on return, and ends the process. */
		struct sigaction standard = { .sa_handler = SIG_DFL };

		sigaction(SIGBUS, &standard, NULL);
	}
	errno = saved_errno;
}

static int install_result;

static void guard_install(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigemptyset(&action.sa_mask);
	install_result = sigaction(SIGBUS, &action, &before) ? -errno : 0;
}

int mapping_guard_install(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, guard_install);
	return install_result;
}

void mapping_guard_admit(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGBUS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void mapping_guard_add(void *base, size_t length, size_t page, bool *cut)
{
	pthread_mutex_lock(&guards_lock);
	for (unsigned int i = 0; i < MAPPING_GUARDS_MAX; i++) {
		if (guards[i].length)
			continue;
		guards[i].page = page;
		guards[i].cut = cut;
		__atomic_store_n(&guards[i].base, (uintptr_t)base, __ATOMIC_RELAXED);
		/* Release; peer: the acquire in guard_find(). */
		__atomic_store_n(&guards[i].length, length, __ATOMIC_RELEASE);
		break;
	}
	pthread_mutex_unlock(&guards_lock);
}

void mapping_guard_remove(void *base)
{
	pthread_mutex_lock(&guards_lock);
	for (unsigned int i = 0; i < MAPPING_GUARDS_MAX; i++)
		if (guards[i].length && guards[i].base == (uintptr_t)base)
			__atomic_store_n(&guards[i].length, 0, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&guards_lock);
}
