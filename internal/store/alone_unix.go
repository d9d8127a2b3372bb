//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock locks f until it is closed; errHeld where another has it open and locked.
func lock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("flock: %w", err)
	}
	var locked error
	err = conn.Control(func(fd uintptr) {
		for {
			if locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(locked, syscall.EINTR) {
				return
			}
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("flock: %w", err)
	case errors.Is(locked, syscall.EWOULDBLOCK):
		return errHeld
	case locked != nil:
		return fmt.Errorf("flock: %w", locked)
	}
	return nil
}
