package store_test

import (
	"testing"

	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// What any caller may rely on, on each database.
func TestConformance(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) *store.Store { return storetest.Open(t, driver) })
		})
	}
}
