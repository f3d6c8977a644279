package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

func init() {
	file, err := os.Open(os.Getenv("SOAK_CLOCK"))
	if err != nil {
		return
	}
	defer func() { _ = file.Close() }()
	if at, err := syscall.Mmap(int(file.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED); err == nil {
		time.WallMoved.Store((*int64)(unsafe.Pointer(&at[0])))
	}
}
