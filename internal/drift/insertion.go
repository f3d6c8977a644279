package drift

import (
	"strconv"

	"provwatch/internal/provider"
)

// InsertedFields returns the fields of the row that an insertion of the step's provider
// makes, as differences from nothing.
func (s Step) InsertedFields() []Field {
	d := s.Desired
	fields := []Field{
		{Name: TypeField, Env: string(s.RowType)},
		{Name: BaseURLField, Env: provider.DisplayURL(d.BaseURL)},
	}
	if region := d.DisplayRegion(); region != "" {
		fields = append(fields, Field{Name: RegionField, Env: region})
	}
	return append(fields, Field{Name: APIKeysField, Env: strconv.Itoa(len(d.Keys))})
}
