package seed

import (
	"context"
	"fmt"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Supported divides the desired providers into those whose type the database
// knows and the rest.
func Supported(ctx context.Context, db store.DBTX, desired []provider.Desired) (supported, unsupported []provider.Desired, err error) {
	types, err := store.On(db).ListProviderTypes(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("look up the types that the database knows: %w", err)
	}
	for _, d := range desired {
		if drift.Types(types).Has(d.Type) {
			supported = append(supported, d)
		} else {
			unsupported = append(unsupported, d)
		}
	}
	return supported, unsupported, nil
}
