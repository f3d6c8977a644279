/* Moves the clock of a process, and of no other, by as many seconds as the file named by
 * SOAK_CLOCK says, a binary number that may change at any time. It is loaded into
 * PostgreSQL by LD_PRELOAD. Unlike libfaketime it says the same in a signal handler, where
 * PostgreSQL decides whether a timeout has passed. The monotonic clock stays. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *moved;

__attribute__((constructor)) static void begin(void)
{
	const char *name = getenv("SOAK_CLOCK");
	int file = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	void *at = mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, file, 0);
	if (at != MAP_FAILED)
		moved = at;
	close(file);
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	int result = (int)syscall(SYS_clock_gettime, id, now);
	if (result == 0 && moved != NULL && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		now->tv_sec += *moved;
	return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
	struct timespec precise;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
		return -1;
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *into)
{
	struct timespec now;
	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	if (into != NULL)
		*into = now.tv_sec;
	return now.tv_sec;
}
