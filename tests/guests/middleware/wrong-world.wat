;; A component that is no middleware: it exports nothing that WarpDrive knows.
(component)
