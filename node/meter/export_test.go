package meter

// Decodes tells whether everything but the code of functions is well-formed.
func Decodes(src []byte) bool {
	_, err := parse(src, DefaultLimits)
	return err == nil
}
