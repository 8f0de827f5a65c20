# An .h5ad file from R, without Python. Needs Matrix and hdf5r (Debian: r-cran-hdf5r).
library(Matrix)
library(hdf5r)

text <- H5T_STRING$new(size = Inf)$set_cset("UTF-8")
mark <- function(where, ...) {
  values <- list(...)
  for (name in names(values)) {
    one <- is.character(values[[name]]) && length(values[[name]]) == 1 && name != "column-order"
    where$create_attr(name, robj = values[[name]],
      dtype = if (is.character(values[[name]])) text,
      space = if (one) H5S$new("scalar"))
  }
}
words <- function(where, name, values) {
  mark(where$create_dataset(name, robj = as.character(values), dtype = text),
    "encoding-type" = "string-array", "encoding-version" = "0.2.0")
}
table <- function(file, name, frame) {
  group <- file$create_group(name)
  mark(group, "encoding-type" = "dataframe", "encoding-version" = "0.2.0",
    "_index" = "_index", "column-order" = colnames(frame))
  words(group, "_index", rownames(frame))
  for (column in colnames(frame)) {
    if (is.numeric(frame[[column]])) group[[column]] <- frame[[column]]
    else words(group, column, frame[[column]])
  }
}

# counts: genes x cells, sparse, as Seurat and SingleCellExperiment keep them; obs: a row for each cell
write_h5ad <- function(counts, obs, path) {
  counts <- as(counts, "CsparseMatrix")
  file <- H5File$new(path, mode = "w")
  mark(file, "encoding-type" = "anndata", "encoding-version" = "0.1.0")
  x <- file$create_group("X")
  mark(x, "encoding-type" = "csr_matrix", "encoding-version" = "0.1.0", shape = rev(dim(counts)))
  x[["data"]] <- counts@x
  x[["indices"]] <- counts@i
  x[["indptr"]] <- counts@p
  table(file, "obs", obs)
  table(file, "var", data.frame(symbol = rownames(counts), row.names = rownames(counts)))
  file$close_all()
}
