package main

import (
	"slices"
	"strings"
	"testing"
)

func TestNegativeNumbers(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"invoke i f -timeout 5s -1 -.5e3 -Infinity -Inf", "invoke i f --timeout 5s !-1 !-.5e3 !-Infinity !-Inf"},
		{"invoke i f -1 -timeout 5s -o json", "invoke i f !-1 --timeout 5s -o json"},
		{"invoke i f -data -1 -2", "invoke i f --data -1 !-2"}, // the value of --data
		{"invoke i f -data=-1", "invoke i f --data=-1"},        // likewise
		{"invoke i f -- -1", "invoke i f -- -1"},               // nothing is a flag any more
		{"invoke i f -x -NaN --1", "invoke i f -x -NaN --1"},   // no numbers
		{"__complete invoke i f -1 -", "__complete invoke i f !-1 -"},
		{"ps -1", "ps -1"}, // takes no numbers
		{"-1 invoke", "-1 invoke"},
	} {
		want := strings.Fields(tt.want)
		for i := range want {
			want[i] = strings.Replace(want[i], "!", shield, 1)
		}
		in := strings.Fields(tt.in)
		got, err := normalize(testCLI().rootCommand(), in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q becomes %q, %v; want %q", in, got, err, want)
		}
	}
	words := []string{shield + "-1", shield + "x", shield, "-1", "x", shield + shield + "-1"}
	if got, want := bare(words), []string{"-1", shield + "x", shield, "-1", "x", shield + shield + "-1"}; !slices.Equal(got, want) {
		t.Errorf("%q becomes %q", words, got)
	}
}
